package catest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"strings"
)

// Renegotiator is the server's side of a TLS 1.2 connection that can ask for another handshake, which crypto/tls cannot: it
// has the keys from the key log, and writes the HelloRequest (RFC 5246 section 7.4.1.1) by itself.
type Renegotiator struct {
	*tls.Conn
	raw  *recording
	keys bytes.Buffer
}

// recording is the server's side of a connection that keeps what is written.
type recording struct {
	net.Conn
	written bytes.Buffer
}

func (c *recording) Write(p []byte) (int, error) {
	c.written.Write(p)
	return c.Conn.Write(p)
}

// NewRenegotiator makes the handshake on conn, with the certificates of cfg, one of which has an ECDSA key.
func NewRenegotiator(conn net.Conn, cfg *tls.Config) (*Renegotiator, error) {
	r := &Renegotiator{raw: &recording{Conn: conn}}
	cfg = cfg.Clone()
	cfg.MaxVersion, cfg.KeyLogWriter = tls.VersionTLS12, &r.keys
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	cfg.SessionTicketsDisabled = true
	r.Conn = tls.Server(r.raw, cfg)
	return r, r.Handshake()
}

// Ask asks for another handshake. Nothing can be written behind it.
func (r *Renegotiator) Ask() error {
	fields := strings.Fields(r.keys.String()) // CLIENT_RANDOM <client's random> <master secret>
	if len(fields) != 3 {
		return errors.New("the key log does not have one secret")
	}
	client, _ := hex.DecodeString(fields[1])
	master, _ := hex.DecodeString(fields[2])
	written := r.raw.written.Bytes()
	server := written[5+4+2:][:32] // a record's head, a message's head, the version
	block := prf(master, "key expansion", append(bytes.Clone(server), client...), 40)
	record, err := seal(block[16:32], block[36:40], encrypted(written), 22, []byte{0, 0, 0, 0})
	if err != nil {
		return err
	}
	_, err = r.raw.Conn.Write(record)
	return err
}

// encrypted counts the records behind the ChangeCipherSpec: the number that the next one has.
func encrypted(records []byte) (n uint64) {
	const changeCipherSpec = 20
	changed := false
	for len(records) >= 5 {
		if changed {
			n++
		}
		changed = changed || records[0] == changeCipherSpec
		records = records[5+int(binary.BigEndian.Uint16(records[3:])):]
	}
	return n
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
func seal(key, salt []byte, number uint64, kind byte, text []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	seq := binary.BigEndian.AppendUint64(nil, number)
	additional := append(bytes.Clone(seq), kind, 3, 3, 0, byte(len(text)))
	record := []byte{kind, 3, 3, 0, byte(8 + len(text) + aead.Overhead())}
	record = append(record, seq...)
	return aead.Seal(record, append(bytes.Clone(salt), seq...), text, additional), nil
}
