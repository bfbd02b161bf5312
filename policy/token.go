package policy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// tokenPrefix begins an element of tokens.
const tokenPrefix = "sha256:"

// NewToken returns a new random token of 256 bits, of A-Z a-z 0-9 _ and -, and what clients.tokens holds of it.
func NewToken() (token, hash string) {
	var random [32]byte
	rand.Read(random[:]) // never fails
	token = base64.RawURLEncoding.EncodeToString(random[:])
	return token, HashToken(token)
}

// HashToken returns what clients.tokens holds of token.
func HashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return tokenPrefix + hex.EncodeToString(sum[:])
}

// parseToken reads an element of tokens; problem is "" where it is one. The problem does not repeat it: it may be the
// token itself, written in the wrong place.
func parseToken(text string) (hash [32]byte, problem string) {
	digits, found := strings.CutPrefix(text, tokenPrefix)
	if !found || len(digits) != hex.EncodedLen(len(hash)) {
		return hash, "is no SHA-256"
	}
	if _, err := hex.Decode(hash[:], []byte(digits)); err != nil {
		return hash, "is no SHA-256"
	}
	if hash == sha256.Sum256(nil) {
		return hash, "is the hash of the empty string, which is no token"
	}
	return hash, ""
}
