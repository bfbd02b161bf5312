package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

const (
	chartFolder   = top + "deploy/chart"
	alertsFile    = chartFolder + "/monitoring/alerts.yaml"
	dashboardFile = chartFolder + "/monitoring/dashboard.json"
)

// TestMonitoring holds the metrics that the alerts and the dashboard ask for against those that there are.
func TestMonitoring(t *testing.T) {
	expressions := append(alertExpressions(t), dashboardExpressions(t)...)
	if len(expressions) < 40 {
		t.Fatalf("got %d expressions; want at least 40", len(expressions))
	}
	if runtime.GOOS != "linux" {
		t.Skip("the metrics of the process are Linux'")
	}
	t.Chdir(t.TempDir())
	d := startDaemon(t, quiet()...)
	line, _ := d.log.wait(t, 0, "started")
	there := metricNames(t, "http://"+line["metrics"].(string)+"/metrics")
	d.stop(t, syscall.SIGTERM)
	there = append(there, "up") // Prometheus' own
	// One whose labels are those of a request exists from the first request on.
	there = append(there, "whsentry_requests_total")
	for _, expression := range expressions {
		names := asked(expression)
		if len(names) == 0 {
			t.Errorf("got no metric in %s", expression)
		}
		for _, name := range names {
			if !slices.Contains(there, name) {
				t.Errorf("got %s in %s, which /metrics does not have", name, expression)
			}
		}
	}
}

// asked returns the names of metrics in a query: the words before a brace or a bracket.
func asked(expression string) (names []string) {
	for _, m := range regexp.MustCompile(`([a-z_]+)[{\[]`).FindAllStringSubmatch(expression, -1) {
		names = append(names, m[1])
	}
	return names
}

func alertExpressions(t *testing.T) (all []string) {
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	unmarshalFile(t, alertsFile, yaml.Unmarshal, &rules)
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			all = append(all, r.Expr)
		}
	}
	return all
}

func dashboardExpressions(t *testing.T) (all []string) {
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	unmarshalFile(t, dashboardFile, json.Unmarshal, &dashboard)
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

func unmarshalFile[T any](t *testing.T, file string, unmarshal func([]byte, any) error, into *T) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		err = unmarshal(data, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func metricNames(t *testing.T, url string) (names []string) {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z_]+)[{ ]`).FindAllStringSubmatch(string(body), -1) {
		names = append(names, m[1])
	}
	return names
}

// TestVersions holds the version that the chart and the compose file name against the program's.
func TestVersions(t *testing.T) {
	for file, want := range map[string]string{
		chartFolder + "/Chart.yaml": `appVersion: "` + version + `"`,
		top + "deploy/compose.yaml": "image: whsentry:" + version,
	} {
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(data), want+"\n") {
			t.Errorf("%s: got no line %s (%v)", file, want, err)
		}
	}
}

// object is a manifest, of which a test looks at what it needs.
type object struct {
	Kind     string
	Metadata struct {
		Name   string
		Labels map[string]string
	}
	Data map[string]string
	Spec struct {
		Groups   any // of alerts
		Selector any
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
				Containers                    []struct {
					Ports []struct{ Name string }
					Env   []struct{ Name, Value string }
				}
			}
		}
		PodSelector struct {
			MatchLabels map[string]string `yaml:"matchLabels"`
		} `yaml:"podSelector"`
		Ports []struct {
			Name       string
			TargetPort string `yaml:"targetPort"`
		}
		Endpoints []struct{ Port string }
	}
}

// render returns what the chart makes of values, by kind and name.
func render(t *testing.T, values string) map[string]object {
	t.Helper()
	if os.Getenv("TEST_INSTALLED") == "" {
		t.Skip("only with TEST_INSTALLED=1, for it starts helm")
	}
	helm, err := exec.LookPath("helm")
	if err != nil {
		t.Skip("helm is not installed")
	}
	command := exec.Command(helm, "template", "whsentry", chartFolder, "--namespace", "egress", "--kube-version", "1.30.0", "-f", "-")
	command.Stdin = strings.NewReader(values)
	text, err := command.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("helm: %s", exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]object)
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all[o.Kind+" "+o.Metadata.Name] = o
	}
}

// selected reports whether labels have all that a selector asks for, and it asks for something.
func selected(selector any, labels map[string]string) bool {
	wanted, _ := selector.(map[string]any)
	if inner, ok := wanted["matchLabels"].(map[string]any); ok {
		wanted = inner
	}
	for key, value := range wanted {
		if labels[key] != value {
			return false
		}
	}
	return len(wanted) > 0
}

// TestChart checks what no schema does: that the parts of the chart fit together, and the proxy accepts its settings.
func TestChart(t *testing.T) {
	const values = `
config: {cidrAllowList: [10.20.0.0/16], accessLog: {type: json}}
drain: {pauseSeconds: 7, shutdownSeconds: 90}
resources: {limits: {memory: 1Gi}}
networkPolicy: {workers: [{namespace: webhooks, podLabels: {app: worker}}]}
serviceMonitor: {enabled: true}
prometheusRule: {enabled: true}
dashboard: {enabled: true}
`
	all := render(t, values)
	deployment := all["Deployment whsentry"]
	pod := deployment.Spec.Template
	for _, name := range []string{"Deployment whsentry", "Service whsentry", "Service whsentry-metrics", "PodDisruptionBudget whsentry"} {
		if !selected(all[name].Spec.Selector, pod.Metadata.Labels) {
			t.Errorf("%s: got selector %v; want one of pods with %v", name, all[name].Spec.Selector, pod.Metadata.Labels)
		}
	}
	monitor, metrics := all["ServiceMonitor whsentry"], all["Service whsentry-metrics"]
	if !selected(monitor.Spec.Selector, metrics.Metadata.Labels) || selected(monitor.Spec.Selector, all["Service whsentry"].Metadata.Labels) {
		t.Errorf("got selector %v; want one of the metrics' service alone", monitor.Spec.Selector)
	}
	if len(monitor.Spec.Endpoints) != 1 || len(metrics.Spec.Ports) != 1 || monitor.Spec.Endpoints[0].Port != metrics.Spec.Ports[0].Name {
		t.Errorf("got endpoints %v; want a port of %v", monitor.Spec.Endpoints, metrics.Spec.Ports)
	}
	if labels := all["NetworkPolicy whsentry-workers-0"].Spec.PodSelector.MatchLabels; labels["app"] != "worker" {
		t.Errorf("got a policy for pods with %v; want the workers", labels)
	}
	if got, want := pod.Spec.TerminationGracePeriodSeconds, 7+90+10; got <= want {
		t.Errorf("got %d s to stop in; want more than %d", got, want)
	}
	for _, v := range pod.Spec.Containers[0].Env {
		if want := "966367641"; v.Name == "GOMEMLIMIT" && v.Value != want {
			t.Errorf("got GOMEMLIMIT %s; want %s", v.Value, want)
		}
	}
	testChartsConfig(t, all["ConfigMap whsentry"].Data["config.yaml"])
	var rules struct{ Groups any }
	unmarshalFile(t, alertsFile, yaml.Unmarshal, &rules)
	got, _ := json.Marshal(all["PrometheusRule whsentry"].Spec.Groups)
	want, _ := json.Marshal(rules.Groups)
	if !bytes.Equal(got, want) {
		t.Errorf("got the alerts %s; want %s", got, want)
	}
	dashboard, err := os.ReadFile(dashboardFile)
	if err != nil || strings.TrimSpace(all["ConfigMap whsentry-dashboard"].Data["whsentry.json"]) != strings.TrimSpace(string(dashboard)) {
		t.Errorf("got another dashboard than %s (%v)", dashboardFile, err)
	}
}

func testChartsConfig(t *testing.T, config string) {
	t.Helper()
	if !strings.Contains(config, "shutdownTimeout: 90s\n") || !strings.Contains(config, "10.20.0.0/16") {
		t.Errorf("got the settings %s; want those of the values, and shutdownTimeout", config)
	}
	file := writeFile(t, config)
	var stdout, stderr bytes.Buffer
	a := &app{stdout: &stdout, stderr: &stderr}
	if code := a.run([]string{"check", "--config", file}); code != exitOK {
		t.Errorf("got exit code %d for the chart's settings: %s", code, &stderr)
	}
}
