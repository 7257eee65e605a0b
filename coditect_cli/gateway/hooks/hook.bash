# bash --posix reads this in the place of its start-up files (ENV): it reads those, as bash does
# without it, and then reports the directory, the exported variables and the newest line of
# history before each prompt. Builtins only; docs/sessions.md has the record's form.
if [ -z "${BASH_VERSION-}" ] || [ -z "${CODITECT_HOOK-}" ]; then
  unset ENV
  return 0 # another shell that came to read it by way of ENV
fi
set +o posix
shopt -u inherit_errexit 2>/dev/null # it leaves this one on
unset ENV
_coditect_hook=$CODITECT_HOOK
_coditect_saved=${CODITECT_SAVED-}
unset CODITECT_HOOK CODITECT_SAVED
if [ "${MAILCHECK-}" = 600 ]; then MAILCHECK=60; fi # posix mode's, and bash's own
if [ "${HISTFILE-}" = "$HOME/.sh_history" ]; then HISTFILE=$HOME/.bash_history; fi

# The newest 100 lines of history go with a report unless there is exactly one more of them than
# before: some may have been taken out.
_coditect_prompt() {
  if [[ -n $_coditect_saved ]]; then
    . "/dev/fd/$_coditect_saved"
    \builtin eval "\exec $_coditect_saved<&-"
    _coditect_saved=
  fi
  if [[ ${HISTCMD-} == "${_coditect_next-}" ]]; then \builtin set -- H -1; else \builtin set -- L -100; fi
  _coditect_next=$((${HISTCMD:-0} + 1))
  if [[ -o posix ]]; then \builtin set -- "$1" "$2" '\0P'; fi
  {
    \builtin printf '\0\0D%s\0V' "$PWD" && \builtin export -p && \builtin printf "${3-}\0$1" &&
      { \builtin fc -l "$2" -1 || [[ ${HISTCMD-} == 1 ]]; } && \builtin printf '\0E'
  } >&"$_coditect_hook"
}

# Behind the user's own, and not the first: that one is replaced by PROMPT_COMMAND=... . Braces keep
# it out of what `set -x` and a DEBUG trap print, `||` out of the reach of `set -e` and an ERR trap.
# `set -v` prints it, and then its comment, which wipes that line and takes its line feed back; in a
# PROMPT_COMMAND that is one text the comment would take in what is put behind it.
_coditect_install() {
  if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)); then
    \builtin declare -ag "PROMPT_COMMAND[${PROMPT_COMMAND[*]+${#PROMPT_COMMAND[*]}}+1]={ _coditect_prompt || :; } >/dev/null 2>&1 #"$'\r\e[K\e[A'
  else
    \builtin printf -v PROMPT_COMMAND '%s{ _coditect_prompt || :; } >/dev/null 2>&1' "${PROMPT_COMMAND:+$PROMPT_COMMAND
}" # declare -g is of bash 4.2
  fi
}

# All that is left is one command, read before a start-up file can say `set -v`. Where
# PROMPT_COMMAND is readonly there is no hook.
{
  if shopt -q login_shell; then
    if [ -r /etc/profile ]; then . /etc/profile; fi
    if [ -r ~/.bash_profile ]; then
      . ~/.bash_profile
    elif [ -r ~/.bash_login ]; then
      . ~/.bash_login
    elif [ -r ~/.profile ]; then
      . ~/.profile
    fi
  else
    if [ -r /etc/bash.bashrc ]; then . /etc/bash.bashrc; fi
    if [ -r ~/.bashrc ]; then . ~/.bashrc; fi
  fi
  { _coditect_install || :; } >/dev/null 2>&1
}
