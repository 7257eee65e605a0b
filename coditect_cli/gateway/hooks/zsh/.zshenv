# zsh reads this as its first own start-up file (ZDOTDIR); the others are then the user's. It
# reports the directory, the exported variables and the newest line of history before each prompt.
# Builtins only; docs/sessions.md has the record's form.
unset ZDOTDIR
if [[ -n ${CODITECT_HOOK-} && -o interactive ]]; then
  typeset -g _coditect_hook=$CODITECT_HOOK _coditect_saved=${CODITECT_SAVED-}

  _coditect_prompt() {
    emulate -L zsh
    {
      if [[ -n $_coditect_saved ]]; then
        . /dev/fd/$_coditect_saved
        exec {_coditect_saved}<&-
        _coditect_saved=
      fi
      zmodload zsh/parameter
      local name newest=$((HISTCMD - 1))
      {
        builtin printf '\0\0D%s\0' "$PWD" &&
          for name in ${(k)parameters[(R)*export*]}; do
            builtin printf 'X%s=%s\0' "$name" "${(P)name}"
          done &&
          builtin printf 'H%s  %s\n\0E' "$newest" "${history[$newest]-}"
      } >&$_coditect_hook
    } >/dev/null 2>&1
  }
  typeset -ga precmd_functions
  precmd_functions+=(_coditect_prompt)
fi
unset CODITECT_HOOK CODITECT_SAVED
if [[ -r ~/.zshenv ]]; then . ~/.zshenv; fi
