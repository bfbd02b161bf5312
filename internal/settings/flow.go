package settings

import (
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// joinTexts puts together the texts that the lexer takes apart at a colon, where a list stands in braces as in
// {servers: [127.0.0.1:53]}. As everywhere else a colon parts a key from its value only where white space follows
// (YAML 1.2.2 section 7.3.3).
func joinTexts(tokens token.Tokens) token.Tokens {
	var joined token.Tokens
	var open []token.Type // the brackets around a token
	for i := 0; i < len(tokens); i++ {
		t := tokens[i]
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			open = append(open, t.Type)
		case token.SequenceEndType, token.MappingEndType:
			open = open[:max(len(open)-1, 0)]
		case token.MappingValueType:
			inList := len(open) > 0 && open[len(open)-1] == token.SequenceStartType
			if !inList || i+1 == len(tokens) || !isPlain(tokens[i+1]) || !follows(t, tokens[i+1]) {
				break
			}
			switch last := joined[len(joined)-1]; { // there is one: the bracket
			case isPlain(last) && follows(last, t):
				joined[len(joined)-1] = joinTokens(last, t, tokens[i+1])
				i++
				continue
			case last.Type == token.SequenceStartType || last.Type == token.CollectEntryType: // ::1
				t = joinTokens(t, tokens[i+1])
				i++
			}
		}
		joined = append(joined, t)
	}
	linked := make(token.Tokens, 0, len(joined))
	linked.Add(joined...)
	return linked
}

// joinTokens makes one text of tokens that follow each other.
func joinTokens(first *token.Token, others ...*token.Token) *token.Token {
	text := token.String(first.Value, first.Origin, first.Position)
	for _, t := range others {
		text.Value += t.Value
		text.Origin += t.Origin
	}
	return text
}

// isPlain reports whether t is a scalar without quotes.
func isPlain(t *token.Token) bool {
	switch t.Type {
	case token.StringType, token.IntegerType, token.FloatType, token.BoolType, token.NullType, token.InfinityType, token.NanType,
		token.BinaryIntegerType, token.OctetIntegerType, token.HexIntegerType:
		return true
	}
	return false
}

// follows reports whether next begins where t ends.
func follows(t, next *token.Token) bool {
	return t.Position.Line == next.Position.Line && t.Position.Column+utf8.RuneCountInString(t.Value) == next.Position.Column
}
