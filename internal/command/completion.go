package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// shells are those that there is a completion for; shellArgument stands for one of them on the command line.
var shells = []string{"bash", "fish", "zsh"}

const shellArgument = "SHELL"

// completion prints the script that makes a shell complete whsentry's commands, flags and values. It is written from the
// command line's definition and has all that it needs in it: a Tab runs nothing.
func (a *app) completion(c *cli.Context) error {
	var script func(commands []*cli.Command) string
	switch name := c.Args().First(); name {
	case "bash":
		script = bashCompletion
	case "fish":
		script = fishCompletion
	case "zsh":
		script = zshCompletion
	default:
		return fmt.Errorf("%s is not a shell that there is a completion for; want one of %s", quote(name), strings.Join(shells, ", "))
	}
	fmt.Fprint(a.stdout, script(c.App.Commands))
	return nil
}

// takesFile reports whether the value of st is the name of a file.
func (st *setting) takesFile() bool { return st.placeholder == files.placeholder }

// choices returns the values that st can have, where they are a few words.
func (st *setting) choices() []string {
	if strings.Contains(st.placeholder, "|") {
		return strings.Split(st.placeholder, "|")
	}
	return nil
}

// nextWords returns what can follow on the words of a command, each with a note about it: the commands below it, or what
// its argument can be.
func nextWords(c *cli.Command) (words, notes []string) {
	for _, below := range c.Subcommands {
		words, notes = append(words, below.Name), append(notes, below.Usage)
	}
	switch literal := strings.Trim(c.ArgsUsage, "[]"); {
	case literal == shellArgument:
		words = shells
	case literal != c.ArgsUsage: // a word that may be left out
		words = []string{literal}
	default:
		return words, notes
	}
	return words, make([]string, len(words))
}

// about is what a list of commands says of one.
func about(c *cli.Command) string { return cmp.Or(c.Usage, names(c.Subcommands)) }

const bashHead = `# bash completion for whsentry. For this shell: eval "$(whsentry completion bash)"; for all of them put it into
# /usr/share/bash-completion/completions/whsentry.

_whsentry() {
	local line=${COMP_LINE:0:COMP_POINT} words last cur flag path="" i
	COMPREPLY=()
	# By white space alone: bash's own words end at = and : too.
	read -ra words <<<"$line"
	[[ $line != *[[:space:]] ]] || words+=("")
	last=$((${#words[@]} - 1))
	cur=${words[last]} flag=${words[last - 1]}
	if [[ $cur == --*=* ]]; then
		flag=${cur%%=*} cur=${cur#*=}
	fi
`

const bashTail = `	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$flags" -- "$cur"))
		return
	fi
	# The words before this one, without the flags and their values.
	for ((i = 1; i < last; i++)); do
		case ${words[i]} in
		--*=*) ;;
		-*) [[ " $bare " == *" ${words[i]} "* ]] || i=$((i + 1)) ;;
		*) path="$path ${words[i]}" ;;
		esac
	done
	case "${path# }" in
`

func bashCompletion(commands []*cli.Command) string {
	var b strings.Builder
	b.WriteString(bashHead)
	var all, bare, valued, withFile []string
	fmt.Fprint(&b, "	case $flag in\n")
	for _, st := range flags() {
		all = append(all, st.flag())
		switch {
		case st.boolean():
			bare = append(bare, st.flag())
		case st.takesFile():
			withFile = append(withFile, st.flag())
		case st.choices() != nil:
			fmt.Fprintf(&b, "	%s)\n		COMPREPLY=($(compgen -W \"%s\" -- \"$cur\"))\n		return\n		;;\n", st.flag(), strings.Join(st.choices(), " "))
		default:
			valued = append(valued, st.flag())
		}
	}
	or := func(names []string) string { return strings.Join(names, " | ") }
	fmt.Fprintf(&b, "	%s)\n		compopt -o default 2>/dev/null\n		return\n		;;\n	%s) return ;;\n	esac\n", or(withFile), or(valued))
	fmt.Fprintf(&b, "	local flags=\"%s\"\n	local bare=\"%s -h\"\n", strings.Join(all, " "), strings.Join(bare, " "))
	b.WriteString(bashTail)
	fmt.Fprintf(&b, "	\"\") COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")) ;;\n", strings.ReplaceAll(names(commands), ",", ""))
	for name, c := range commandTree(commands) {
		if words, _ := nextWords(c); words != nil {
			fmt.Fprintf(&b, "	%q) COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")) ;;\n", name, strings.Join(words, " "))
		}
	}
	b.WriteString("	esac\n}\n\ncomplete -F _whsentry whsentry\n")
	return b.String()
}

const zshHead = `#compdef whsentry
# zsh completion for whsentry. Put it into a folder of $fpath as _whsentry, or: source <(whsentry completion zsh)

_whsentry() {
	local curcontext=$curcontext state line
	local -a flags commands words_below
	local -A opt_args
`

const zshTail = `	esac
}

if [[ $funcstack[1] == _whsentry ]]; then
	_whsentry "$@"
else
	compdef _whsentry whsentry
fi
`

func zshCompletion(commands []*cli.Command) string {
	var b strings.Builder
	b.WriteString(zshHead)
	b.WriteString("	flags=(\n")
	for _, st := range flags() {
		fmt.Fprintf(&b, "		%s\n", shellQuote(zshFlag(st)))
	}
	b.WriteString("	)\n	commands=(\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "		%s\n", shellQuote(zshWord(c.Name, about(c))))
	}
	b.WriteString("	)\n	_arguments -C $flags '1:command:->command' '2: :->argument' && return\n	case $state in\n" +
		"	command) _describe command commands ;;\n	argument)\n		case $line[1] in\n")
	for _, c := range commands {
		words, notes := nextWords(c)
		if words == nil {
			continue
		}
		fmt.Fprintf(&b, "		%s)\n			words_below=(", c.Name)
		for i, word := range words {
			fmt.Fprintf(&b, "%s ", shellQuote(zshWord(word, notes[i])))
		}
		b.WriteString(")\n			_describe argument words_below\n			;;\n")
	}
	b.WriteString("		esac\n		;;\n" + zshTail)
	return b.String()
}

// zshFlag is what _arguments is told of a flag.
func zshFlag(st *setting) string {
	escape := strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`).Replace
	spec, help := st.flag(), "["+escape(st.help)+"]"
	if st.list {
		spec = "*" + spec
	}
	switch {
	case slices.Contains(parserFlags, st.flag()):
		return spec + help
	case st.boolean():
		return spec + "=-" + help + "::boolean:(true false)"
	case st.takesFile():
		return spec + "=" + help + ":file:_files"
	case st.choices() != nil:
		return spec + "=" + help + ":value:(" + strings.Join(st.choices(), " ") + ")"
	}
	return spec + "=" + help + ":" + escape(st.placeholder) + ": "
}

// zshWord is what _describe is told of a word.
func zshWord(word, note string) string {
	if note == "" {
		return word
	}
	return word + ":" + note
}

const fishHead = `# fish completion for whsentry. For this shell: whsentry completion fish | source; for all of them put it into
# ~/.config/fish/completions/whsentry.fish.

complete -c whsentry -f
`

func fishCompletion(commands []*cli.Command) string {
	var b strings.Builder
	b.WriteString(fishHead)
	for _, st := range flags() {
		kind := "-x" // a value, and no files for it
		switch {
		case st.boolean():
			kind = ""
		case st.takesFile():
			kind = "-r -F"
		case st.choices() != nil:
			kind = "-x -a " + shellQuote(strings.Join(st.choices(), " "))
		}
		fmt.Fprintf(&b, "complete -c whsentry -l %s\n", strings.Join(strings.Fields(strings.TrimPrefix(st.flag(), "--")+" "+kind+" -d "+fishQuote(st.help)), " "))
	}
	top := strings.ReplaceAll(names(commands), ",", "")
	line := func(condition, word, note string) {
		fmt.Fprintf(&b, "complete -c whsentry -n %s -a %s", shellQuote(condition), word)
		if note != "" {
			fmt.Fprintf(&b, " -d %s", fishQuote(note))
		}
		b.WriteString("\n")
	}
	for _, c := range commands {
		line("not __fish_seen_subcommand_from "+top, c.Name, about(c))
	}
	for _, c := range commands {
		words, notes := nextWords(c)
		for i, word := range words {
			line("__fish_seen_subcommand_from "+c.Name+"; and not __fish_seen_subcommand_from "+strings.Join(words, " "), word, notes[i])
		}
	}
	return b.String()
}

// shellQuote puts text in single quotes, as bash and zsh read them.
func shellQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// fishQuote puts text in single quotes, as fish reads them.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}
