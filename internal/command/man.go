package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// man prints the manual page, in the language of man(7).
func (a *app) man(c *cli.Context) error {
	fmt.Fprint(a.stdout, manual(c.App.Commands))
	return nil
}

const manHead = `.SH NAME
whsentry \- HTTP forward proxy for webhooks that lets nobody into the network that it runs in
.SH SYNOPSIS
`

const manDescription = `.SH DESCRIPTION
.B whsentry
forwards webhooks to servers that nobody vouches for, and to nothing inside the network that it runs in. It resolves a
destination's name, judges every address, and connects to the very address that it judged. It bounds time, size and
connections, logs every request, and tells its clients in the headers X-WhSentry-Reason and X-WhSentry-ReasonCode why it
refused one.
.PP
Without a command it runs the proxy until SIGTERM or SIGINT. It needs no configuration to start.
`

const manSettings = `.SH OPTIONS
Settings come from options, then the environment, then the file, then defaults: the first that has one counts. A list has
commas between its items, and an option for one that is given twice adds to it. Options may stand on either side of a
command and its argument.
`

const manTail = `.SH FILES
.TP
.I config.yaml
in the working directory, where there is one and \-\-config and WHSENTRY_CONFIG name no other: the settings, in YAML. A
packaged service reads
.IR /etc/whsentry/config.yaml .
.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
stop: no new connections, running requests finish (for up to the shutdown timeout). A second one stops at once.
.TP
.B SIGHUP
read settings, certificates and the trust store again, and open the log files anew. What is wrong is logged, and all
stays as it was.
.SH EXIT STATUS
.TP
.B 0
stopped as told; what was asked for is so
.TP
.B 1
bad settings, a bad command line, or what was asked for could not be done; of
.BR "ca check" :
not trusted
.TP
.B 3
.BR explain ", " "ca check" :
the proxy would refuse the URL
.TP
.B 4
.BR explain :
the URL's name does not resolve
.SH EXAMPLES
.nf
whsentry \-\-cidr\-allow\-list 10.8.0.0/16 \-\-connect\-timeout 5s
curl \-x http://127.0.0.1:9090 \-H 'X\-WhSentry\-TLS: true' http://example.com/hook \-d '{}'
whsentry explain https://example.com/hook
whsentry check \-\-config config.yaml
.fi
`

// manual returns the manual page. It is the same on every machine.
func manual(commands []*cli.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH WHSENTRY 1 \"\" \"whsentry %s\"\n", roff(version))
	b.WriteString(manHead)
	b.WriteString("\\fBwhsentry\\fR [\\fIoptions\\fR]\n")
	eachUsage(commands, func(name, arguments, _ string) {
		fmt.Fprintf(&b, ".br\n\\fBwhsentry %s\\fR [\\fIoptions\\fR] %s\n", roff(name), roff(arguments))
	})
	b.WriteString(manDescription)
	b.WriteString(".SH COMMANDS\n")
	eachUsage(commands, func(name, arguments, help string) {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(name+" "+arguments)), roff(help))
	})
	b.WriteString(manSettings)
	defaults := defaultSettings()
	for _, st := range flags() {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(strings.TrimSpace(st.flag()+" "+st.placeholder)), roff(st.help))
		if st.get != nil {
			fmt.Fprintf(&b, ".br\nDefault %s; %s\n", roff(st.manDefault(defaults)), roff(st.variable()))
		}
	}
	b.WriteString(manTail)
	return b.String()
}

// eachUsage calls f for every command that does something by itself.
func eachUsage(commands []*cli.Command, f func(name, arguments, help string)) {
	for name, c := range commandTree(commands) {
		if len(c.Subcommands) == 0 {
			f(name, c.ArgsUsage, c.Usage)
		}
	}
}

// manDefault is the default of st for a page that is read elsewhere than it is written.
func (st *setting) manDefault(defaults *settings) string {
	if st.key == "caBundle.file" {
		return "whsentry/cacert.pem under the user's cache folder"
	}
	return st.show(defaults)
}

// roff returns text as troff has to read it to print it as it is.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
