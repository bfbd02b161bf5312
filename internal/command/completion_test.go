package command

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"whsentry/internal/settings"
)

func TestCompletionErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no shell", nil, "SHELL is missing; want whsentry completion [flags] SHELL"},
		{"unknown shell", []string{"tcsh"}, `"tcsh" is not a shell that there is a completion for; want one of bash, fish, powershell, zsh`},
		{"two shells", []string{"bash", "zsh"}, `stray argument "zsh"; want whsentry completion [flags] SHELL`},
	} {
		r := runApp(t, nil, append([]string{"completion"}, tt.args...)...)
		if r.code != exitFailed || r.stdout != "" || !strings.Contains(r.stderr, tt.want) {
			t.Errorf("%s: got %+v; want %s", tt.name, r, tt.want)
		}
	}
}

// fish's script has every flag and every command in it; the others ask the program.
func TestFishCompletionIsWhole(t *testing.T) {
	script := runApp(t, nil, "completion", "fish").stdout
	for _, st := range settings.Flags() {
		if !strings.Contains(script, " -l "+strings.TrimPrefix(st.Flag(), "--")+" ") {
			t.Errorf("got no %s", st.Flag())
		}
	}
	for name, c := range commandTree((&app{}).commands()) {
		if !strings.Contains(script, "-a '"+c.Name+"'") {
			t.Errorf("got no %s", name)
		}
	}
}

// The completions are tried in the shells themselves, where they are installed: what Tab makes of a line.
var completions = []struct {
	line string
	want []string
}{
	{"whsentry exp", []string{"explain"}},
	{"whsentry clients ", []string{"token"}},
	{"whsentry explain --clien", []string{"--client", "--client-cert-file", "--client-cert-header", "--client-idle-timeout", "--client-key-file", "--client-timeout"}},
	{"whsentry ca ", []string{"check", "list", "update"}},
	{"whsentry ca l", []string{"list"}},
	{"whsentry --listener-address :9090 ca l", []string{"list"}},
	{"whsentry --listener-address=:9090 ca --config=a=b l", []string{"list"}},
	{"whsentry --listener-reuse-port heal", []string{"health"}},
	{"whsentry --metrics-a", []string{"--metrics-address"}},
	{"whsentry check --metrics-a", []string{"--metrics-address"}},
	{"whsentry explain http", nil},
	{"whsentry --connect-timeout c", nil},
}

// script writes a completion into a file of a new folder, beside a whsentry. The test is skipped where there is no such
// shell, or it may not be used.
func script(t *testing.T, shell, name string) string {
	t.Helper()
	if os.Getenv("TEST_INSTALLED") == "" {
		t.Skipf("only with TEST_INSTALLED=1, for it starts %s", shell)
	}
	if _, err := exec.LookPath(shell); err != nil {
		t.Skipf("there is no %s", shell)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(program, filepath.Join(filepath.Dir(file), "whsentry")); err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stdout}
	if code := a.run([]string{"completion", shell}); code != exitOK {
		t.Fatalf("got exit code %d: %s", code, &stdout)
	}
	if err := os.WriteFile(file, stdout.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// shellOutput runs a shell that finds whsentry in folder. It must have nothing to complain of.
func shellOutput(t *testing.T, folder, stdin string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = []string{"PATH=" + folder + ":" + os.Getenv("PATH"), asWhsentry + "=1", "HOME=" + t.TempDir(), "TERM=dumb", "LC_ALL=C.UTF-8"}
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %v: %s%s", command, err, out, &stderr)
	}
	return string(out)
}

func TestBashCompletion(t *testing.T) {
	file := script(t, "bash", "whsentry.bash")
	for _, tt := range completions {
		got := strings.Fields(shellOutput(t, filepath.Dir(file), "", "bash", "--norc", "-c",
			`set -u; . "$1"; COMP_LINE=$2 COMP_POINT=${#2}; _whsentry; echo ${COMPREPLY[@]+"${COMPREPLY[@]}"}`, "bash", file, tt.line))
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v; want %v", tt.line, got, tt.want)
		}
	}
}

func TestFishCompletion(t *testing.T) {
	file := script(t, "fish", "whsentry.fish")
	for _, tt := range completions {
		var got []string
		for line := range strings.Lines(shellOutput(t, filepath.Dir(file), "", "fish", "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", file, tt.line)) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v; want %v", tt.line, got, tt.want)
		}
	}
}

// zsh completes only at a terminal, so it gets one: what is typed, a Tab, and a key that shows what the line is then.
const zshTerminal = `
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D; unsetopt automenu autolist; setopt nobeep
show() { print -r -- \"<<\$BUFFER>>\"; BUFFER= }; zle -N show; bindkey '^I' complete-word; bindkey '^G' show; PS1=; print read''y"
zpty -r z out '*ready*'
while IFS= read -r line; do
	zpty -w -n z "$line"$'\t\x07'
	zpty -r z out '*<<*>>*'
	print -r -- "${${out##*<<}%%>>*}"
done
zpty -d z
`

func TestZshCompletion(t *testing.T) {
	folder := filepath.Dir(script(t, "zsh", "_whsentry"))
	var typed strings.Builder
	for _, tt := range completions {
		typed.WriteString(tt.line + "\n")
	}
	lines := strings.Split(shellOutput(t, folder, typed.String(), "zsh", "-f", "-c", zshTerminal, "zsh", folder), "\n")
	for i, tt := range completions {
		if len(tt.want) > 1 {
			continue // the line has what they have in common, which is nothing
		}
		want := tt.line
		if len(tt.want) == 1 {
			cut := strings.LastIndexAny(tt.line, " =") + 1
			want = tt.line[:cut] + tt.want[0]
		}
		if got := strings.TrimRight(lines[i], " =\r"); got != want {
			t.Errorf("%s: got %q; want %q", tt.line, got, want)
		}
	}
}

// TestManual looks for every command and flag.
func TestManual(t *testing.T) {
	r := runApp(t, nil, "man")
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("got exit code %d and %q; want 0 and nothing", r.code, r.stderr)
	}
	plain := strings.Join(strings.Fields(strings.NewReplacer(`\-`, "-", `\&`, "", `\fB`, "", `\fP`, "").Replace(r.stdout)), " ")
	for name, c := range commandTree((&app{}).commands()) {
		if !strings.Contains(plain, c.Name+" "+c.Usage) {
			t.Errorf("got nothing of %s", name)
		}
	}
	for _, st := range settings.Flags() {
		for _, want := range []string{st.Flag(), st.Help + "; " + st.Variable()} {
			if !strings.Contains(plain, want) {
				t.Errorf("%s: got no %s", st.Key, want)
			}
		}
	}
	if n := strings.Count(plain, "WHSENTRY_CONNECT_TIMEOUT"); n != 1 {
		t.Errorf("got a flag %d times; want the flags once, not for every command", n)
	}
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 && strings.Contains(plain, home) {
		t.Errorf("the manual names this machine's %s", home)
	}
}
