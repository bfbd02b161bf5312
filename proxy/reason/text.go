package reason

import (
	"unicode"
	"unicode/utf8"
)

// MaxText bounds the part of a reason that comes from outside, in bytes.
const MaxText = 512

// AppendText appends text so that it can stand in a header, a status line and a log: control characters
// and what is not UTF-8 as \xNN, and not more of it than MaxText.
func AppendText(dst []byte, text string) []byte {
	begin := len(dst)
	for len(text) > 0 {
		if len(dst)-begin >= MaxText {
			return append(dst, "..."...)
		}
		r, size := utf8.DecodeRuneInString(text)
		if unicode.IsControl(r) || (r == utf8.RuneError && size == 1) {
			dst = appendHex(dst, text[:size])
		} else {
			dst = append(dst, text[:size]...)
		}
		text = text[size:]
	}
	return dst
}

// appendASCII appends text with what is not printable ASCII as \xNN.
func appendASCII(dst []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f {
			dst = appendHex(dst, text[i:i+1])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}

// AppendWord appends b so that it is one word of a line: what is not in ! to ~, and the backslash, as \xNN.
func AppendWord(dst, b []byte) []byte {
	written := 0
	for i, c := range b {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			dst = appendHex(append(dst, b[written:i]...), b[i:i+1])
			written = i + 1
		}
	}
	return append(dst, b[written:]...)
}

func appendHex[T string | []byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	for i := range len(text) {
		dst = append(dst, '\\', 'x', digits[text[i]>>4], digits[text[i]&15])
	}
	return dst
}
