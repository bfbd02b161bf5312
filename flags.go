package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// commandLine is what was typed after whsentry.
type commandLine struct {
	command   *command
	arguments []string // those of the command
	config    string   // --config
	flags     map[string][]string
	help      bool
	version   bool
}

// load returns the settings that the command line, the environment and the file make.
func (c *commandLine) load(getenv func(string) string) (*settings, error) {
	return sources{configFile: c.config, flags: c.flags, getenv: getenv}.load()
}

// parseCommandLine takes the words apart. Flags may stand anywhere, until --; a flag's value follows after = or as
// the next word. What the values mean is left to load.
func parseCommandLine(args []string) (*commandLine, error) {
	c := &commandLine{flags: make(map[string][]string)}
	var words []string
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			words = append(words, args...)
			break
		}
		if !strings.HasPrefix(word, "-") || word == "-" {
			words = append(words, word)
			continue
		}
		var err error
		if args, err = c.flag(word, args); err != nil {
			return nil, err
		}
	}
	if c.help || c.version {
		return c, nil
	}
	var err error
	c.command, c.arguments, err = findCommand(words)
	return c, err
}

// flag notes one flag and returns the words after it and its value.
func (c *commandLine) flag(word string, rest []string) ([]string, error) {
	name, value, given := strings.Cut(word, "=")
	switch name {
	case "-h", "--help", "--version":
		if given {
			return nil, fmt.Errorf("%s: %s: a value; want none", name, quote(value))
		}
		c.help = c.help || name != "--version"
		c.version = c.version || name == "--version"
		return rest, nil
	}
	st := findFlag(name)
	if st == nil && name != "--config" {
		return nil, unknownFlag(name)
	}
	want := "the name of a file"
	if st != nil {
		want = st.want
	}
	switch {
	case given:
	case st != nil && st.boolean():
		value = "true"
	case len(rest) == 0 || strings.HasPrefix(rest[0], "--"):
		return nil, fmt.Errorf("%s: no value; want %s", name, want)
	default:
		value, rest = rest[0], rest[1:]
	}
	if st != nil {
		c.flags[name] = append(c.flags[name], value)
		return rest, nil
	}
	if value == "" {
		return nil, errors.New(`--config: "": no name; want the name of a file`)
	}
	c.config = value
	return rest, nil
}

func findFlag(name string) *setting {
	i := slices.IndexFunc(table, func(st setting) bool { return !st.structure && st.flag() == name })
	if i < 0 {
		return nil
	}
	return &table[i]
}

func unknownFlag(name string) error {
	known := []string{"--config", "--help", "--version"}
	for i := range table {
		if !table[i].structure {
			known = append(known, table[i].flag())
		} else if name == table[i].flag() {
			return fmt.Errorf("%s: not a flag; want %s in a configuration file", name, table[i].key)
		}
	}
	if near := nearest(name, known); near != "" {
		return fmt.Errorf("%s: unknown flag; did you mean %s?", quote(name), near)
	}
	return fmt.Errorf("%s: unknown flag; want one that whsentry --help lists", quote(name))
}

const helpIntroduction = `whsentry forwards webhooks to servers that nobody vouches for, and to nothing inside your network.

Examples:
  whsentry                                  # proxy on :9090, metrics and health on :2112
  curl -x http://127.0.0.1:9090 -H 'X-WhSentry-TLS: true' http://example.com/hook -d '{}'
  whsentry explain https://example.com/hook
  whsentry check --config config.yaml
  whsentry --cidr-allow-list 10.8.0.0/16 --connect-timeout 5s

Commands:
`

const helpFlags = `
Settings come from flags, then the environment, then the file, then defaults: the first that has one counts.
A list has commas between its items, and a flag for one that is given twice adds to it.

Flags:
  --config FILE
        YAML file with settings
        default config.yaml in the working directory where there is one; WHSENTRY_CONFIG
  --version
        print version, commit and Go version
  --help, -h
        print this
`

// printHelp lists the commands, and every flag with its default and environment variable.
func printHelp(w io.Writer) {
	fmt.Fprint(w, helpIntroduction)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-32s  %s\n", c.usage(), c.help)
	}
	fmt.Fprint(w, helpFlags)
	defaults := defaultSettings()
	var fileOnly []string
	for i := range table {
		st := &table[i]
		if st.structure {
			fileOnly = append(fileOnly, st.key)
			continue
		}
		fmt.Fprintln(w, "  "+strings.TrimSpace(st.flag()+" "+st.placeholder))
		printWrapped(w, st.help)
		printWrapped(w, "default "+st.show(defaults)+"; "+st.variable())
	}
	fmt.Fprintf(w, "\nOnly in the file: %s\n", strings.Join(fileOnly, ", "))
}

// show returns a setting's value for people: the items of a list, and "none" where there is none.
func (st *setting) show(s *settings) string {
	values := st.get(s)
	if text := strings.Join(values, ", "); text != "" {
		return text
	}
	return "none"
}

// printWrapped prints text below a flag, in lines that fit a terminal.
func printWrapped(w io.Writer, text string) {
	const indent, width = "        ", 100
	line := indent
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width && line != indent {
			fmt.Fprintln(w, line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(w, line)
}
