"""What --show-completion and --install-completion give bash and zsh in place of typer's scripts.

Behind `ID:` a path follows: neither puts a space there, and bash offers no local files there (but
for macOS's own 3.2, which has no compopt).
"""

from __future__ import annotations

from typer import _completion_shared

BASH = """
%(complete_func)s() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" \\
                   COMP_CWORD=$COMP_CWORD \\
                   %(autocomplete_var)s=complete_bash $1 2> /dev/null ) )
    if [[ ${COMPREPLY-} == *: ]]; then
        compopt -o nospace 2> /dev/null
    elif [[ ${COMP_WORDS[COMP_CWORD]} == : || ${COMP_WORDS[COMP_CWORD-1]} == : ]]; then
        compopt +o default 2> /dev/null
    fi
    return 0
}

complete -o default -F %(complete_func)s %(prog_name)s
"""

ZSH = """
#compdef %(prog_name)s

%(complete_func)s() {
  local answer="$(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" \\
      %(autocomplete_var)s=complete_zsh %(prog_name)s 2> /dev/null)"
  if [[ $answer == *':"))'"'" ]]; then
    local -a places=( ${${(f)answer}//(*\\(\\(|[\\\\\\"]|\\)\\)\\')/} )
    compadd -S '' -- $places
  else
    eval $answer
  fi
}

compdef %(complete_func)s %(prog_name)s
"""


def use_own_scripts() -> None:
    """Typer has no setting for its scripts; the pinned release keeps them here."""
    _completion_shared._completion_scripts.update(bash=BASH, zsh=ZSH)
