package command

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"whsentry/internal/settings"
)

// shells are those that there is a completion for. All but fish's ask the program at each Tab, which then answers by
// urfave/cli; a word that is begun is handed on only where it is a flag.
var shells = []string{"bash", "fish", "powershell", "zsh"}

// completion prints what makes a shell complete commands and flags.
func (a *app) completion(c *cli.Context) error {
	switch name := c.Args().First(); name {
	case "bash":
		fmt.Fprint(a.stdout, bashCompletion)
	case "fish":
		script, err := c.App.ToFishCompletion()
		if err != nil {
			return fmt.Errorf("write the completion for fish: %w", err)
		}
		fmt.Fprint(a.stdout, "complete -c whsentry -f\n"+script) // no files among the commands
	case "powershell":
		fmt.Fprint(a.stdout, powershellCompletion)
	case "zsh":
		fmt.Fprint(a.stdout, zshCompletion)
	default:
		return fmt.Errorf("%s is not a shell that there is a completion for; want one of %s", settings.Quote(name), strings.Join(shells, ", "))
	}
	return nil
}

// complete answers a shell. Where the word to complete is a flag's value, it leaves that to the shell.
func (a *app) complete(c *cli.Context) {
	for _, f := range a.flags {
		if n := len(f.texts); n > 0 && f.texts[n-1] == "" {
			return
		}
	}
	cli.DefaultCompleteWithFlags(c.Command)(c)
}

const bashCompletion = `# For this shell: eval "$(whsentry completion bash)"
_whsentry() {
	local line=${COMP_LINE:0:COMP_POINT} words cur=""
	read -ra words <<<"$line" # by white space alone: bash's own words end at = and : too
	[[ $line == *[[:space:]] ]] || cur=${words[-1]}
	[[ -n $cur ]] || words+=("")
	[[ $cur == -* ]] || words[-1]="" # which has the words asked for, not the flags
	COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o default -F _whsentry whsentry
`

const zshCompletion = `#compdef whsentry
# For this shell: source <(whsentry completion zsh)
_whsentry() {
	local -a line answers
	line=("${(@)words[1,CURRENT-1]}" "")
	[[ $words[CURRENT] != -* ]] || line[-1]=$words[CURRENT]
	answers=("${(@f)$("${line[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n $answers[1] ]]; then compadd -a answers; else _files; fi
}
if [[ $funcstack[1] == _whsentry ]]; then _whsentry "$@"; else compdef _whsentry whsentry; fi
`

const powershellCompletion = `# For this shell: whsentry completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName whsentry -ScriptBlock {
	param($word, $ast, $position)
	$line = @($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() })
	if ($word) { $line = @($line | Select-Object -SkipLast 1) }
	if (-not $word.StartsWith('-')) { $line += '""' } else { $line += $word }
	& whsentry @line --generate-bash-completion 2>$null | Where-Object { $_ -like "$word*" }
}
`

// man prints the manual page.
func (a *app) man(c *cli.Context) error {
	page := *c.App
	page.Commands = nil
	for _, command := range c.App.Commands {
		page.Commands = append(page.Commands, withoutFlags(command))
	}
	text, err := page.ToManWithSection(1)
	if err != nil {
		return fmt.Errorf("write the manual page: %w", err)
	}
	fmt.Fprint(a.stdout, text)
	return nil
}

// withoutFlags returns a command for a page that lists the flags of all commands once.
func withoutFlags(command *cli.Command) *cli.Command {
	plain := *command
	plain.Flags, plain.Subcommands = nil, nil
	for _, below := range command.Subcommands {
		plain.Subcommands = append(plain.Subcommands, withoutFlags(below))
	}
	return &plain
}
