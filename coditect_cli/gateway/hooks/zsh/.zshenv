# zsh reads this as its first own start-up file (ZDOTDIR); the others are then the user's. It
# reports the directory, the exported variables and the new lines of history before each prompt.
# Builtins only; docs/sessions.md has the record's form.
unset ZDOTDIR
if [[ -n ${CODITECT_HOOK-} && -o interactive ]]; then
  typeset -g _coditect_hook=$CODITECT_HOOK _coditect_saved=${CODITECT_SAVED-}
  typeset -g _coditect_next= _coditect_line=
  typeset -gi _coditect_count=0 _coditect_told=0

  # The braces keep it out of what `set -x` prints; a DEBUG trap is back when the function ends.
  _coditect_prompt() {
    {
      setopt local_options local_traps
      trap - DEBUG
      local _coditect_extended=${options[extendedglob]}
      emulate -L zsh
      _coditect_report
    } >/dev/null 2>&1
  }
  _coditect_report() {
    if [[ -n $_coditect_saved ]]; then
      unsetopt aliases
      . /dev/fd/$_coditect_saved
      exec {_coditect_saved}<&-
      _coditect_saved=
    fi
    zmodload zsh/parameter
    local _coditect_name
    _coditect_find_lines
    # Whole, so that no more is written once the pipe is full.
    local _coditect_record=$'\0\0D'$PWD$'\0'
    for _coditect_name in ${(k)parameters[(R)(scalar|integer|float)*export*]}; do
      _coditect_record+=X$_coditect_name=${(P)_coditect_name}$'\0'
    done
    _coditect_record+=H$_coditect_new$'\0E'
    builtin print -rn -- "$_coditect_record" >&$_coditect_hook
  }
  # Sets _coditect_new to this session's own lines since the prompt before, or the one that was told
  # last. They are counted here: between them are those that share_history reads, which fc leaves out.
  _coditect_find_lines() {
    typeset -g _coditect_new=
    if [[ -z $_coditect_next ]]; then
      _coditect_next=$HISTCMD
      _coditect_line=${history[$((HISTCMD - 1))]-}
    fi
    # A line that zsh does not keep (hist_ignore_space, hist_no_store) stays until the next one takes
    # its number.
    if ((HISTCMD == _coditect_next && HISTCMD == _coditect_told + 1)) &&
      [[ ${history[$_coditect_told]-} != "$_coditect_line" ]]; then
      _coditect_next=$_coditect_told
      ((_coditect_count--))
    fi
    local -i _coditect_at=$((_coditect_next > HISTCMD - 100 ? _coditect_next : HISTCMD - 100))
    [[ $_coditect_extended == on ]] && setopt extended_glob
    for ((; _coditect_at < HISTCMD; _coditect_at++)); do
      [[ -n ${history[$_coditect_at]-} ]] || continue
      builtin fc -lLI $_coditect_at $_coditect_at || continue
      [[ -n ${HISTORY_IGNORE-} && ${history[$_coditect_at]} == ${~HISTORY_IGNORE} ]] && continue
      _coditect_told=$_coditect_at _coditect_line=${history[$_coditect_at]}
      _coditect_new+=$((++_coditect_count))$'\t '$_coditect_line$'\n'
    done
    _coditect_next=$HISTCMD
    [[ -n $_coditect_new ]] || _coditect_new=$_coditect_count$'\t '$_coditect_line$'\n'
  }
  # Adds lines of history behind those that the shell has from its file, where each that is in both
  # is taken out: then all are added anew. Last it thinks that they are in its file already.
  _coditect_remember() {
    zmodload zsh/parameter
    local _coditect_line
    local -a _coditect_lines=("$@")
    if (( ${#${(@)history:*argv}} )); then
      _coditect_lines=("${(@Oa)history}")
      _coditect_lines=("${(@)_coditect_lines:|argv}" "$@")
      builtin print -rs -- "$_coditect_lines[1]" # the one that is left where there may be one
      { () { local HISTSIZE=1 } } always { TRY_BLOCK_ERROR=0 }
      shift _coditect_lines
    fi
    for _coditect_line in "${(@)_coditect_lines}"; do builtin print -rs -- "$_coditect_line"; done
    setopt hist_fcntl_lock
    builtin fc -AI /dev/null
  }
  # Once, before the first prompt: start-up files may have set precmd_functions anew.
  _coditect_start() {
    emulate -L zsh
    unfunction _coditect_start
    [[ ${precmd_functions[(Ie)_coditect_prompt]} -gt 0 ]] && return
    precmd_functions+=(_coditect_prompt)
    _coditect_prompt
  }
  typeset -ga precmd_functions
  precmd_functions+=(_coditect_prompt)
  zmodload zsh/sched 2>/dev/null && sched +0 '{ _coditect_start } >/dev/null 2>&1'
fi
unset CODITECT_HOOK CODITECT_SAVED
if [[ -r ~/.zshenv ]]; then . ~/.zshenv; fi
