package http1

import (
	"errors"
	"strings"
	"testing"
)

// decoded is what became of a chunked body.
type decoded struct {
	data     string
	consumed int
	done     bool
	odd      bool
	err      error
}

// decode feeds raw, cut at cuts, to a decoder of requests' bodies whose limit is limit.
func decode(raw string, limit int64, cuts ...int) decoded {
	var d Chunks
	d.Reset(limit, false)
	return d.decode(raw, cuts...)
}

// decodeResponse is decode for the body of a response.
func decodeResponse(raw string, limit int64, cuts ...int) decoded {
	var d Chunks
	d.Reset(limit, true)
	return d.decode(raw, cuts...)
}

func (d *Chunks) decode(raw string, cuts ...int) (got decoded) {
	for _, cut := range append(cuts, len(raw)) {
		for got.consumed < cut && !d.Done() {
			data, n, err := d.Next([]byte(raw[got.consumed:cut]))
			got.data += string(data)
			got.consumed += n
			if err != nil {
				got.err = err
				return got
			}
		}
	}
	got.done, got.odd = d.Done(), d.OddTrailers()
	return got
}

// chunkTests are bodies with a decoder's limit of 64. rest is what follows on the body.
var chunkTests = []struct {
	name, raw, want string
	err             error
	rest            int
	unfinished      bool
}{
	{"one chunk", "3\r\nabc\r\n0\r\n\r\n", "abc", nil, 0, false},
	{"two chunks", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde", nil, 0, false},
	{"nothing", "0\r\n\r\n", "", nil, 0, false},
	{"hexadecimal", "A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", "01234567890123456789a", nil, 0, false},
	{"zeros in front", "0003\r\nabc\r\n0000\r\n\r\n", "abc", nil, 0, false},
	{"sixteen digits", "0000000000000003\r\nabc\r\n0\r\n\r\n", "abc", nil, 0, false},
	{"line ends in the data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", nil, 0, false},
	{"extension", "3;a=b\r\nabc\r\n0;c\r\n\r\n", "abc", nil, 0, false},
	{"extension with spaces", "3; a = \"b c\"\r\nabc\r\n0\r\n\r\n", "abc", nil, 0, false},
	{"empty extension", "3;\r\nabc\r\n0\r\n\r\n", "abc", nil, 0, false},
	{"trailer", "0\r\nA: b\r\nC:d\r\nE:\r\n\r\n", "", nil, 0, false},
	{"trailer with a long name", "0\r\nAaaaaaaaaaaaaaaaaaaaaaaaaaaaaa: b\r\n\r\n", "", nil, 0, false},
	{"bytes behind it", "1\r\na\r\n0\r\n\r\nGET", "a", nil, 3, false},
	{"cut in a size", "3", "", nil, 0, true},
	{"cut in the data", "3\r\nab", "ab", nil, 0, true},
	{"cut before the last chunk", "3\r\nabc\r\n", "abc", nil, 0, true},
	{"cut after the last size", "3\r\nabc\r\n0\r\n", "abc", nil, 0, true},
	{"cut in the end", "0\r\n\r", "", nil, 0, true},

	{"no size", "\r\nabc\r\n0\r\n\r\n", "", errChunk, 0, false},
	{"extension without a size", ";a\r\nabc", "", errChunk, 0, false},
	{"negative size", "-3\r\nabc\r\n", "", errChunk, 0, false},
	{"size with a sign", "+3\r\nabc\r\n", "", errChunk, 0, false},
	{"0x", "0x3\r\nabc\r\n", "", errChunk, 0, false},
	{"size that is no number", "g\r\nabc\r\n", "", errChunk, 0, false},
	{"underscore", "1_0\r\nabc\r\n", "", errChunk, 0, false},
	{"space before the size", " 3\r\nabc\r\n", "", errChunk, 0, false},
	{"space after the size", "3 \r\nabc\r\n", "", errChunk, 0, false},
	{"space before the extension", "3 ;a\r\nabc\r\n", "", errChunk, 0, false},
	{"tab after the size", "3\t\r\nabc\r\n", "", errChunk, 0, false},
	{"seventeen digits", "00000000000000003\r\nabc\r\n", "", errChunk, 0, false},
	{"size over an int64", "fffffffffffffffff\r\n", "", errChunk, 0, false},
	{"size that overflows to 3", "10000000000000003\r\nabc\r\n0\r\n\r\n", "", errChunk, 0, false},
	{"size of 64 bits", "ffffffffffffffff\r\nabc", "", errChunk, 0, false},
	{"size one over an int64", "8000000000000000\r\nabc", "", errChunk, 0, false},
	{"bare LF after the size", "3\nabc\r\n0\r\n\r\n", "", errChunk, 0, false},
	{"bare CR after the size", "3\rabc\r\n0\r\n\r\n", "", errChunk, 0, false},
	{"CR CR LF after the size", "3\r\r\nabc", "", errChunk, 0, false},
	{"bare LF after the data", "3\r\nabc\n0\r\n\r\n", "abc", errChunk, 0, false},
	{"bare CR after the data", "3\r\nabc\r0\r\n\r\n", "abc", errChunk, 0, false},
	{"data too long", "3\r\nabcd\r\n0\r\n\r\n", "abc", errChunk, 0, false},
	{"data too short", "3\r\nab\r\n0\r\n\r\n", "ab\r", errChunk, 0, false},
	{"nothing after the data", "3\r\nabc0\r\n\r\n", "abc", errChunk, 0, false},
	{"bare LF in an extension", "3;a\nabc\r\n0\r\n\r\n", "", errChunk, 0, false},
	{"bare CR in an extension", "3;a\rb\r\nabc\r\n0\r\n\r\n", "", errChunk, 0, false},
	{"quoted line end in an extension", "3;a=\"\r\n\"\r\nabc", "\"\r\n", errChunk, 0, false},
	{"NUL in an extension", "3;\x00\r\nabc\r\n", "", errChunk, 0, false},
	{"bare LF at the end", "0\r\n\n", "", errTrailer, 0, false},
	{"bare LF after the last size", "0\n\n", "", errChunk, 0, false},
	{"text at the end", "0\r\n\rX", "", errTrailer, 0, false},
	{"request for a trailer", "0\r\nGET / HTTP/1.1\r\n\r\n", "", errTrailer, 0, false},
	{"folded trailer", "0\r\nA: b\r\n c\r\n\r\n", "", errTrailer, 0, false},
	{"trailer that begins with a space", "0\r\n A: b\r\n\r\n", "", errTrailer, 0, false},
	{"trailer with a space before the colon", "0\r\nA : b\r\n\r\n", "", errTrailer, 0, false},
	{"trailer without a name", "0\r\n: b\r\n\r\n", "", errTrailer, 0, false},
	{"trailer with a control byte", "0\r\nA: \x00\r\n\r\n", "", errTrailer, 0, false},
	{"trailer with a bare CR", "0\r\nA: b\rc\r\n\r\n", "", errTrailer, 0, false},
	{"trailer with a bare LF", "0\r\nA: b\n\r\n", "", errTrailer, 0, false},
	{"length as a trailer", "0\r\ncontent-LENGTH: 3\r\n\r\n", "", errTrailer, 0, false},
	{"coding as a trailer", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "", errTrailer, 0, false},
	{"Host as a trailer", "0\r\nHost: evil\r\n\r\n", "", errTrailer, 0, false},
	{"almost a length as a trailer", "0\r\nContent-Lengt: 3\r\nContent-Length2: 3\r\n\r\n", "", nil, 0, false},

	{"extensions within the limit", "1;" + strings.Repeat("a", 63) + "\r\nx\r\n0\r\n\r\n", "x", nil, 0, false},
	{"extension over the limit", "1;" + strings.Repeat("a", 64) + "\r\nx", "", errExtensions, 0, false},
	{"extensions over the limit together", strings.Repeat("1;aaaaaaa\r\nx\r\n", 9), "xxxxxxxx", errExtensions, 0, false},
	{"trailers within the limit", "0\r\nA:" + strings.Repeat("a", 58) + "\r\n\r\n", "", nil, 0, false},
	{"trailers over the limit", "0\r\nA:" + strings.Repeat("a", 59) + "\r\n\r\n", "", ErrTrailersTooLarge, 0, false},
	{"trailers without end", "0\r\n" + strings.Repeat("A:b\r\n", 100), "", ErrTrailersTooLarge, 0, false},
}

func TestChunkDecoder(t *testing.T) {
	for _, tt := range chunkTests {
		t.Run(tt.name, func(t *testing.T) {
			got := decode(tt.raw, 64)
			if got.data != tt.want || !errors.Is(got.err, tt.err) || tt.err == nil && got.err != nil {
				t.Fatalf("got %q, %v; want %q, %v", got.data, got.err, tt.want, tt.err)
			}
			if tt.err == nil && (got.done == tt.unfinished || got.consumed != len(tt.raw)-tt.rest) {
				t.Errorf("got done %v after %d of %d bytes; want %v and %d left", got.done, got.consumed, len(tt.raw), !tt.unfinished, tt.rest)
			}
		})
	}
}

// TestChunkDecoderInPieces holds that it makes no difference to a body in how many pieces it comes.
func TestChunkDecoderInPieces(t *testing.T) {
	for _, tt := range chunkTests {
		t.Run(tt.name, func(t *testing.T) {
			want := decode(tt.raw, 64)
			var every []int
			for i := range len(tt.raw) {
				every = append(every, i)
				for j := i; j < len(tt.raw); j += 7 {
					if got := decode(tt.raw, 64, i, j); got != want {
						t.Fatalf("cut at %d and %d: got %+v; want %+v", i, j, got, want)
					}
				}
			}
			if got := decode(tt.raw, 64, every...); got != want {
				t.Fatalf("byte by byte: got %+v; want %+v", got, want)
			}
		})
	}
}

// TestTrailersOfResponses holds what of a response's trailers is passed over, where a request's would be refused.
func TestTrailersOfResponses(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		odd       bool
		err       error
	}{
		{"none", "0\r\n\r\n", false, nil},
		{"in order", "0\r\nA: b\r\nC:\r\n\r\n", false, nil},
		{"no colon", "0\r\nGET / HTTP/1.1\r\n\r\n", true, nil},
		{"a name alone", "0\r\nA\r\n\r\n", true, nil},
		{"folded", "0\r\nA: b\r\n c\r\n\r\n", true, nil},
		{"a line of white space", "0\r\n \r\n\r\n", true, nil},
		{"a space before the colon", "0\r\nA : b\r\n\r\n", true, nil},
		{"no name", "0\r\n: b\r\n\r\n", true, nil},
		{"a control byte in a value", "0\r\nA: \x00b\r\n\r\n", true, nil},
		{"a control byte in a name", "0\r\nA\x00: b\r\nC: d\r\n\r\n", true, nil},
		{"a length", "0\r\ncontent-LENGTH: 3\r\n\r\n", true, nil},
		{"a coding", "0\r\nTransfer-Encoding: chunked\r\n\r\n", true, nil},
		{"a Host", "0\r\nHost: evil\r\n\r\n", true, nil},
		{"odd, and then in order", "0\r\nA\r\nB: c\r\n\r\n", true, nil},
		{"a bare LF at the end", "0\r\n\n", false, errTrailer},
		{"a bare LF", "0\r\nA: b\n\r\n", false, errTrailer},
		{"a bare LF after a name", "0\r\nA\n\r\n", false, errTrailer},
		{"a bare LF in an odd line", "0\r\nA B\nC: d\r\n\r\n", true, errTrailer},
		{"a bare CR", "0\r\nA: b\rc\r\n\r\n", false, errTrailer},
		{"a bare CR in a name", "0\r\nA\rB: c\r\n\r\n", true, errTrailer},
		{"a bare CR at the end", "0\r\n\rA", false, errTrailer},
		{"CR CR LF", "0\r\nA: b\r\r\n\r\n", false, errTrailer},
		{"too many odd lines", "0\r\n" + strings.Repeat("A\r\n", 100), true, ErrTrailersTooLarge},
		{"a size with white space", "0 \r\n\r\n", false, errChunk},
		{"a bare LF after the size", "0\n\r\n", false, errChunk},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, cuts := range [][]int{nil, everyByte(tt.raw)} {
				got := decodeResponse(tt.raw, 64, cuts...)
				if !errors.Is(got.err, tt.err) || tt.err == nil && (got.err != nil || !got.done || got.consumed != len(tt.raw) || got.odd != tt.odd) {
					t.Errorf("got %+v; want odd %v, %v", got, tt.odd, tt.err)
				}
			}
		})
	}
}

// TestLeft holds that the size of a chunk is known once it has been read, and not before: a digit may follow.
func TestLeft(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      int64
	}{
		{"nothing", "", 0},
		{"digits alone", "ff", 0},
		{"a whole size", "ff\r", 255},
		{"a size before an extension", "ff;a", 255},
		{"a size line", "ff\r\n", 255},
		{"the largest", "7fffffffffffffff\r\n", 1<<63 - 1},
		{"some of the data", "3\r\na", 2},
		{"all of the data", "3\r\nabc", 0},
		{"the next chunk's digits", "3\r\nabc\r\n5", 0},
		{"the next chunk's size", "3\r\nabc\r\n5\r\n", 5},
		{"the last chunk", "0\r\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d Chunks
			d.Reset(64, false)
			if got := d.decode(tt.raw); got.err != nil || d.Left() != tt.want {
				t.Errorf("got %d, %v; want %d", d.Left(), got.err, tt.want)
			}
		})
	}
}
