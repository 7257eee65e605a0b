from __future__ import annotations

import pytest

from coditect_cli.sessions.redaction import hints, holds_secret, secret_spans, without_secrets
from coditect_cli.settings import SECRET_NAMES

PEM_BODY = "\nMIIEow+/=\nAQ==\n"
PEM = f"-----BEGIN RSA PRIVATE KEY-----{PEM_BODY}-----END RSA PRIVATE KEY-----"
NPM, PYPI = "abcdefghijklmnop", "AgEIcHlwaS5vcmcCJD"
LONG_USER = "0123456789abcdef0123"


LINES: list[tuple[str, list[str]]] = [
    ("export API_TOKEN=hunter2 LANG=C", ["hunter2"]),
    ("AWS_SECRET_ACCESS_KEY='a b' x", ["a b"]),
    ('password = "a \\" b" x', ['a \\" b']),
    ("DB_PASSWORD=", []),
    ("DB_PASSWORD=; API_TOKEN=x; ls", ["x"]),
    ("curl -H 'X: y' --token abc; MY_KEY=a;b", ["abc", "a;b"]),
    ("export API_TOKEN='one\ntwo' X=1", ["one\ntwo"]),
    ('API_KEY="one\\\ntwo\nthree"; ls', ["one\\\ntwo\nthree"]),
    ("password=$'it\\'s one\n two' x", ["it\\'s one\n two"]),
    (f"export X='{PEM}' Y=1", [PEM_BODY]),
    (f"cat > id_rsa <<E\n{PEM}\nE", [PEM_BODY]),
    (f'{{"k": "{PEM.replace(chr(10), chr(92) + "n")}"}}', ["\\nMIIEow+/=\\nAQ==\\n"]),
    ("echo '-----BEGIN PGP PRIVATE KEY BLOCK-----\nabc\ndef", ["\nabc\ndef"]),
    ("-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----", []),
    ('{"api_key":"abc","n":1}', ["abc"]),
    ("  client-secret: abc", ["abc"]),
    ("Authorization: Bearer abc.def", ["abc.def"]),
    ("mysql --password hunter2 -h x", ["hunter2"]),
    ("curl https://ada:hunter2@host/x", ["hunter2"]),
    ("postgres://ada:p@ss@host:5432/x", ["p@ss"]),
    (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln x",
        ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"],
    ),
    ("set -gx MY_TOKEN hunter2; ls", ["hunter2"]),
    ("setenv API_KEY 'a b'", ["a b"]),
    ("set -o keyword -x; set key", []),
    ("API_TOKEN=$(echo hunter2 | tr a b); ls", ["$(echo hunter2 | tr a b)"]),
    ('API_TOKEN="$(echo "a b")" x', ['$(echo "a b")']),
    ("API_TOKEN=x$(a $(b (c) ')') d)y ls", ["x$(a $(b (c) ')') d)y"]),
    ("API_TOKEN=`echo a b`; API_KEY=c", ["`echo a b`", "c"]),
    ("API_TOKEN=$(echo a\nb c", ["$(echo a\nb c"]),
    ("API_TOKEN='$(a' b", ["$(a"]),
    ('curl -H "X-Token: $(cat x y)" -v', ['$(cat x y)"']),
    ("API_KEYS=(a b 'c)' d) e", ["(a b 'c)' d)"]),
    ("API_KEY[0]=a API_KEY+=b", ["a", "b"]),
    ("read -r TOKEN <<< hunter2; ls", ["hunter2"]),
    ('IFS=: read user password <<<"ada:hunter2"; ls', ['"ada:hunter2"']),
    ("read line <<< x; read <y", []),
    ("printf -v TOKEN '%s;%s' a \"$b; c\"; ls", ["'%s;%s' a \"$b; c\""]),
    ("printf -v x %s a", []),
    ("printf -v KEY %s a  \nls", ["%s a  "]),
    ("git clone https://ghp_x7@github.com/a/b", ["x7"]),
    ("https://0123456789abcdef0123@host/ https://0123456789abcdef0123:@h", 2 * [LONG_USER]),
    ("https://ada-lovelace-of-london.example:80/ ssh://git@host/ a@b", []),
    ("curl -H 'Cookie: sid=abc; csrf=d e' x", ["sid=abc; csrf=d e"]),
    ("Set-Cookie: sid=abc; Path=/", ["sid=abc; Path=/"]),
    ("curl --cookie sid=abc -v", ["sid=abc"]),
    ("-H Authorization:\\ Bearer\\ abc", ["abc"]),
    ("echo ghp_Ab1 github_pat_1_b glpat-a-b.c xoxb-1-a", ["Ab1", "1_b", "a-b.c", "1-a"]),
    ("x=AKIAIOSFODNN7EXAMPLE,sk_live_4eC3 asiatic", ["IOSFODNN7EXAMPLE", "4eC3"]),
    ("sk-ant-api03-abcdefghijkl task-sk-abcdefghijklmnopqrst", ["ant-api03-abcdefghijkl"]),
    ("pip install sk-learn; glut-x; xghp_abc", []),
    ("-" * 8 + "token x", ["x"]),
    ("curl -s -u ada:hunter2 u; curl --user 'ada:a b' u", ["hunter2", "a"]),
    ("docker run -u 1000:1000 x", []),
    ("sshpass -p hunter2 ssh h; openssl enc -passin pass:hunter3", ["hunter2", "hunter3"]),
    ("curl -s -b 'sid=abc; x' u; curl -bsid=abc u", ["sid=abc; x", "sid=abc"]),
    ("docker login -u ada -p hunter2 host; Last login: Tue -p", ["hunter2"]),
    ("mysql -u ada -phunter2 db; mysqldump -p'a b' db; mysql -p db", ["hunter2", "a b"]),
    ("A[api_token]=a B=([pass]=b [x]=c)", ["a", "b"]),
    ("npm_abcdefghijklmnop hf_short pypi-AgEIcHlwaS5vcmcCJD", [NPM, PYPI]),
    ("KeyError: 'x'", []),
    ("if key == 3 and Token::Kind", []),
    ("at http://localhost:8080/x and http://[::1]:80/", []),
    ("[sudo] password for ada: ", []),
    ("PATH=/bin HOME=/root", []),
]


def hidden(line: str) -> list[str]:
    spans, _ = secret_spans(line)
    return [line[start:end] for start, end in sorted(spans)]


@pytest.mark.parametrize(("line", "secrets"), LINES)
def test_secrets_of_a_line(line: str, secrets: list[str]) -> None:
    assert hidden(line) == secrets
    assert hints(()).search(line) or not secrets


def test_what_was_hidden_stays_as_it_is() -> None:
    """A restored shell has hidden lines in its history, which are hidden again."""
    for line, _ in LINES:
        once = without_secrets(line, SECRET_NAMES)
        assert without_secrets(once, SECRET_NAMES) == once


@pytest.mark.parametrize(
    ("line", "undecided"),
    [
        ("http://u:", ""),
        ("http://localhost:8080", "8080"),
        ("http://localhost:8080/", None),
        ("http://u:123456", None),
    ],
)
def test_a_port_may_be_the_start_of_a_password(line: str, undecided: str | None) -> None:
    start = secret_spans(line)[1]
    assert (None if start is None else line[start:]) == undecided


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("postgres://u:pw@h/db", True),
        ("-Ddb.password=pw -Xmx1g", True),
        ("eyJhbGciOiJIUzI1NiJ9.e30.c2ln", True),
        ("http://localhost:8080", False),
        ("unix:path=/run/user/0/bus", False),
        ("https://h:1,https://h:2", False),
    ],
)
def test_values_that_hold_secrets(value: str, secret: bool) -> None:
    assert holds_secret(value) == secret


def test_names_of_secrets_may_be_any_pattern() -> None:
    for names, name in [(("mine*",), "MINE_X"), (("?",), "Y"), (("[AB]_ID", "x*y"), "XaaY")]:
        line = f"env {name}='s 1' z"
        assert hints(names).search(line)
        assert [line[a:b] for a, b in secret_spans(line, names)[0]] == ["'s 1'"]


def test_a_password_that_goes_on_is_one_before_its_end_is_seen() -> None:
    assert hidden("http://u:123456") == ["123456"]
    assert hidden("http://u:pa") == ["pa"]


@pytest.mark.parametrize(
    "text",
    [
        "key" * 50_000,
        "x" * 200_000,
        "://" + "a" * 200_000,
        "=" * 200_000,
        "a='" * 60_000,
        "-----BEGIN PRIVATE KEY-----" * 9_000,
        "key=" + ";" * 200_000,
        "set key" * 30_000,
        "set " + "a" * 200_000,
        "-" * 200_000,
        "--a" * 60_000,
        "key=$(" * 30_000,
        'key="$(' * 30_000,
        "key=`a$(" + "`" * 200_000,
        "printf -v key " * 14_000,
        "read key <<<" * 16_000,
        "cookie:" * 28_000,
        "https://" + "a-" * 100_000,
        "sk-" * 60_000,
        "curl " * 40_000,
        "curl -u " * 25_000,
        "COOKIE=(" * 25_000,
    ],
)
def test_long_lines_take_no_quadratic_time(text: str) -> None:
    secret_spans(text, SECRET_NAMES)
