//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// site is one of nginx's servers: a port of its own, the host NAME.hooks.test and the files NAME.pem and NAME.key.
type site struct {
	Name    string
	Address string // 127.0.0.1:port
	Lines   string // further directives
	Plain   bool   // without TLS
}

func (s *site) host() string { return s.Name + ".hooks.test" }

// authority is host:port as clients ask for it.
func (s *site) authority() string {
	_, port, _ := net.SplitHostPort(s.Address)
	return s.host() + ":" + port
}

// nginxConfig hands every request on to the origin, with what nginx knows of the connection in X-Seen-*; it serves the
// files in bundles/ itself.
var nginxConfig = template.Must(template.New("nginx.conf").Parse(`
daemon off;
worker_processes 1;
user root root; # for it has to read the scratch folder
pid nginx.pid;
error_log error.log info;
events { worker_connections 1024; }
http {
	log_format seen '$status $request_method $request_uri';
	access_log access.log seen;
	client_body_temp_path tmp-body; proxy_temp_path tmp-proxy; fastcgi_temp_path tmp-f; uwsgi_temp_path tmp-u; scgi_temp_path tmp-s;
	client_max_body_size 16m;
	ssl_ciphers ALL:@SECLEVEL=0; # TLS 1.1 needs that
	ssl_protocols TLSv1.2 TLSv1.3;
	ssl_client_certificate {{.Dir}}/clients.pem;
	proxy_http_version 1.1;
	proxy_set_header Host $http_host;
	proxy_set_header Connection "";
	proxy_set_header X-Seen-Protocol $ssl_protocol;
	proxy_set_header X-Seen-Name $ssl_server_name;
	proxy_set_header X-Seen-ALPN $ssl_alpn_protocol;
	proxy_set_header X-Seen-Client $ssl_client_s_dn;
	proxy_set_header X-Seen-Serial $ssl_client_serial;
	proxy_set_header X-Seen-Resumed $ssl_session_reused;
	proxy_set_header X-Seen-Connection $connection;
{{- range .Sites}}
	server {
		listen {{.Address}}{{if not .Plain}} ssl{{end}};
		server_name {{.Name}}.hooks.test;
		ssl_certificate {{$.Dir}}/{{.Name}}.pem;
		ssl_certificate_key {{$.Dir}}/{{.Name}}.key;
		{{.Lines}}
		location / { proxy_pass http://{{$.Origin}}; }
		location /bundles/ { root {{$.Dir}}; }
	}
{{- end}}
}
`))

// nginx is a running one.
type nginx struct {
	dir     string // prefix
	process *exec.Cmd
	ended   chan struct{} // closed when it has ended
	output  bytes.Buffer  // valid once ended is closed
}

// startNginx serves sites, whose certificates lie in dir, and hands requests on to origin. It has its own folder in dir.
func startNginx(ctx context.Context, dir, origin string, sites []*site) (*nginx, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // not in every user's PATH
	}
	n := &nginx{dir: filepath.Join(dir, "nginx"), ended: make(chan struct{})}
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return nil, err
	}
	var config bytes.Buffer
	if err := nginxConfig.Execute(&config, map[string]any{"Dir": dir, "Origin": origin, "Sites": sites}); err != nil {
		return nil, err
	}
	file := filepath.Join(n.dir, "nginx.conf")
	if err := os.WriteFile(file, config.Bytes(), 0o644); err != nil {
		return nil, err
	}
	n.process = exec.Command(program, "-p", n.dir, "-c", file, "-e", filepath.Join(n.dir, "error.log"))
	n.process.Stdout, n.process.Stderr = &n.output, &n.output
	if err := n.process.Start(); err != nil {
		return nil, fmt.Errorf("start nginx: %w", err)
	}
	go n.wait()
	return n, eventually(ctx, 10*time.Second, func() error {
		select {
		case <-n.ended:
			return fatal{fmt.Errorf("nginx ended: %s", n.output.String())}
		default:
		}
		for _, s := range sites {
			conn, err := net.DialTimeout("tcp", s.Address, time.Second)
			if err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	})
}

// wait owns the process' end; it closes n.ended.
func (n *nginx) wait() {
	n.process.Wait()
	close(n.ended)
}

// stop ends it and its worker, at once.
func (n *nginx) stop() error {
	n.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
		return nil
	case <-time.After(5 * time.Second):
		n.process.Process.Kill()
		return errors.New("nginx had to be killed")
	}
}

// logged returns how many requests of the access log have this status, method and URL.
func (n *nginx) logged(line string) (int, error) {
	text, err := os.ReadFile(filepath.Join(n.dir, "access.log"))
	return strings.Count(string(text), line+"\n"), err
}
