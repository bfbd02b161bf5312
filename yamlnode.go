package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// resolve looks through anchors, aliases and the tags of YAML's own types. What it returns is nil, a scalar, a list,
// a mapping, or a tag that makes text of a scalar.
func (r *yamlReader) resolve(node ast.Node) (ast.Node, error) {
	const farthest = 16 // an anchor may stand for an alias of itself
	for range farthest {
		switch n := node.(type) {
		case *ast.AnchorNode:
			r.anchors[n.Name.GetToken().Value] = n.Value
			node = n.Value
		case *ast.AliasNode:
			name := n.Value.GetToken().Value
			target, known := r.anchors[name]
			if !known {
				return nil, fmt.Errorf("an alias, but no anchor &%s stands before it", name)
			}
			node = target
		case *ast.TagNode:
			tag := n.Start.Value
			if !strings.HasPrefix(tag, "!!") {
				return nil, fmt.Errorf("the tag %s is not taken", tag)
			}
			if tag == "!!str" {
				return n, nil
			}
			node = n.Value
		default:
			return node, nil
		}
	}
	return nil, errors.New("an alias of itself")
}

// at returns where node stands, or fallback where it does not say.
func (r *yamlReader) at(node ast.Node, fallback string) string {
	if node == nil || node.GetToken() == nil {
		return fallback
	}
	return position(r.file, node.GetToken())
}

func isNull(node ast.Node) bool {
	_, null := node.(*ast.NullNode)
	return null || node == nil
}

// scalarText returns a scalar as it is written, and what YAML takes it for.
func scalarText(node ast.Node) (text string, form form, ok bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		if n.Token.Type == token.SingleQuoteType || n.Token.Type == token.DoubleQuoteType {
			return n.Value, quotedForm, true
		}
		return n.Value, textForm, true
	case *ast.LiteralNode:
		return n.Value.Value, quotedForm, true
	case *ast.BoolNode:
		return n.Token.Value, booleanForm, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, numberForm, true
	case *ast.TagNode: // !!str
		text, _, ok = scalarText(n.Value)
		return text, quotedForm, ok || isNull(n.Value)
	}
	return "", 0, false
}

// describe names the type of a node for an error.
func describe(node ast.Node) string {
	switch node.(type) {
	case *ast.SequenceNode:
		return "a list"
	case ast.MapNode:
		return "a mapping"
	}
	if _, form, ok := scalarText(node); ok {
		return form.String()
	}
	return "empty"
}

// excerpt shows a node for an error: in full where it is a scalar or a list of them.
func excerpt(node ast.Node) string {
	switch n := node.(type) {
	case *ast.SequenceNode:
		var items []string
		for _, item := range n.Values {
			text, _, ok := scalarText(item)
			if !ok {
				text = "..."
			}
			items = append(items, text)
		}
		return "[" + strings.Join(items, ", ") + "]"
	case ast.MapNode:
		return "{...}"
	}
	text, _, _ := scalarText(node)
	return text
}

// nearest returns the one of names that name was most likely meant to be, or "" where none is like it.
func nearest(name string, names []string) string {
	const longest = 64 // of a key or flag, with room for a slip
	if len(name) > longest {
		return ""
	}
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "").Replace(s))
	}
	best, least := "", max(len(name)/4, 1)+1
	for _, candidate := range names {
		if d := distance(plain(name), plain(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the letters to add, drop, replace or swap with the next to make b of a.
func distance(a, b string) int {
	before, above := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above = above, row
	}
	return above[len(b)]
}
