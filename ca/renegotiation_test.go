package ca

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"whsentry/ca/catest"
)

// recording is the server's side of a connection that keeps what is written.
type recording struct {
	net.Conn
	written bytes.Buffer
}

func (c *recording) Write(p []byte) (int, error) {
	c.written.Write(p)
	return c.Conn.Write(p)
}

// askToRenegotiate makes a TLS 1.2 handshake as a server and asks for another one, which crypto/tls cannot: it has the
// keys from the key log, and writes the HelloRequest (RFC 5246 section 7.4.1.1) by itself. It returns the type of the
// record that comes in answer: 21 is an alert, 22 a handshake.
func askToRenegotiate(t *testing.T, conn net.Conn, cfg *tls.Config) (answer byte) {
	var keys bytes.Buffer
	cfg = cfg.Clone()
	cfg.MaxVersion, cfg.KeyLogWriter = tls.VersionTLS12, &keys
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	cfg.SessionTicketsDisabled = true
	rec := &recording{Conn: conn}
	if err := tls.Server(rec, cfg).Handshake(); err != nil {
		t.Errorf("the server's handshake: %v", err)
		return 0
	}
	// CLIENT_RANDOM <client's random> <master secret>
	fields := strings.Fields(keys.String())
	client, _ := hex.DecodeString(fields[1])
	master, _ := hex.DecodeString(fields[2])
	server := rec.written.Bytes()[5+4+2:][:32] // a record's head, a message's head, the version
	block := prf(master, "key expansion", append(bytes.Clone(server), client...), 40)
	conn.Write(seal(t, block[16:32], block[36:40], 1, 22, []byte{0, 0, 0, 0})) // Finished was number 0
	head := make([]byte, 5)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Errorf("read the answer to HelloRequest: %v", err)
	}
	return head[0]
}

// prf is the pseudorandom function of TLS 1.2 (RFC 5246 section 5).
func prf(secret []byte, label string, seed []byte, n int) []byte {
	sum := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	seed = append([]byte(label), seed...)
	var out []byte
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// seal encrypts a record with AES-128-GCM (RFC 5288).
func seal(t *testing.T, key, salt []byte, number uint64, kind byte, text []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	seq := binary.BigEndian.AppendUint64(nil, number)
	additional := append(bytes.Clone(seq), kind, 3, 3, 0, byte(len(text)))
	record := []byte{kind, 3, 3, 0, byte(8 + len(text) + aead.Overhead())}
	record = append(record, seq...)
	return aead.Seal(record, append(bytes.Clone(salt), seq...), text, additional)
}

// TestRenegotiation shows that one is refused with a text that says what it takes, and begun where it is allowed.
func TestRenegotiation(t *testing.T) {
	root := catest.Root(t, "Root")
	cfg := testConfig(t, root)
	cfg.Destinations = []RulesConfig{{Renegotiation: true}, {}}
	s := newStore(t, cfg)
	server := &tls.Config{Certificates: []tls.Certificate{root.Leaf(t, testHost)}}
	for _, tt := range []struct {
		name  string
		rules *Rules
		want  byte
	}{
		{"no entry", nil, 21},
		{"not in the entry", s.Rules(1), 21},
		{"in the entry", s.Rules(0), 22},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers := make(chan byte, 1)
			port := serve(t, func(conn net.Conn) { answers <- askToRenegotiate(t, conn, server) })
			conn := connect(t, port)
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			client, err := s.Handshake(ctx, conn, Destination{Host: testHost, Port: port, Rules: tt.rules}, nil)
			if err != nil {
				t.Fatalf("Handshake: %v", err)
			}
			client.SetDeadline(time.Now().Add(patience))
			_, err = client.Read(make([]byte, 1))
			if got := <-answers; got != tt.want {
				t.Errorf("got a record of type %d in answer; want %d", got, tt.want)
			}
			refused := tt.want == 21
			f := Explain(err, testHost)
			if IsRenegotiation(err) != refused || (f.Cause == CauseRenegotiation) != refused {
				t.Errorf("got %v, %+v; want a renegotiation that is refused: %v", err, f, refused)
			}
			if refused && !strings.Contains(f.Text, "renegotiation in its entry of destinations allows one") {
				t.Errorf("got the text %q; want what cures it", f.Text)
			}
			if IsAlert(err) {
				t.Errorf("%v is taken for an alert of the server", err)
			}
		})
	}
}
