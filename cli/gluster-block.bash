# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# Completion of gluster-block(8) for bash: the program itself knows its words, and asks blockd for names.

_gluster_block()
{
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}") candidates
    mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" complete "${words[@]}" 2>/dev/null)
    # A volume's name with its "/" goes on with the name of a block.
    for candidates in "${COMPREPLY[@]}"; do
        if [[ $candidates == */ ]]; then
            compopt -o nospace
            break
        fi
    done
}

complete -o default -F _gluster_block gluster-block
