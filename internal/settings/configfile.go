package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"whsentry/proxy/listen"
)

// yamlReader takes one document apart.
type yamlReader struct {
	file    string
	origin  map[string]string   // where each key was found, filled in
	anchors map[string]ast.Node // as far as they have been met
}

// entry is a key's value, its path for errors, and where the key stands.
type entry struct {
	path   string
	origin string
	value  ast.Node
}

// excerpt shows the value for an error; not where it may be a token.
func (e *entry) excerpt() string {
	if !isNull(e.value) && (strings.HasPrefix(e.path, "clients[") || strings.Contains(strings.ToLower(e.path), "token")) {
		return "..."
	}
	return excerpt(e.value)
}

func (e *entry) wrong(text, problem, want string) error {
	return wrongValue(e.origin, e.path, text, problem, want)
}

// members say, for each key that a mapping may have, what is done with its value.
type members map[string]member

// member reads the value of a key. One that is null is not set, but where takesNull says that this is an error too: a
// template that renders nothing must not open a door.
type member struct {
	read      func(entry) error
	takesNull bool
}

func (r *yamlReader) document(s *Settings, body ast.Node) error {
	node, err := r.resolve(body)
	if err != nil {
		return fmt.Errorf("%s: %w; want a mapping of keys such as connectTimeout: 10s", position(r.file, body.GetToken()), err)
	}
	if isNull(node) {
		return nil // an empty file, or comments alone
	}
	if _, ok := node.(ast.MapNode); !ok {
		return fmt.Errorf("%s: %s is %s; want a mapping of keys such as connectTimeout: 10s",
			position(r.file, node.GetToken()), Quote(excerpt(node)), describe(node))
	}
	return r.mapping(entry{value: node}, r.topLevel(s))
}

// topLevel makes members of the table.
func (r *yamlReader) topLevel(s *Settings) members {
	top := members{
		"listeners":    {read: func(e entry) error { return r.listeners(s, e) }},
		"clientCerts":  {read: func(e entry) error { return r.clientCerts(s, e) }},
		"clients":      {func(e entry) error { return r.clients(s, e) }, true},
		"destinations": {func(e entry) error { return r.destinations(s, e) }, true},
	}
	groups := make(map[string]members)
	for i := range table {
		st := &table[i]
		group, name, nested := strings.Cut(st.Key, ".")
		switch {
		case st.Structure:
		case !nested:
			top[st.Key] = r.setter(s, st)
		default:
			if groups[group] == nil {
				groups[group] = make(members)
				top[group] = member{read: func(e entry) error { return r.mapping(e, groups[group]) }}
			}
			groups[group][name] = r.setter(s, st)
		}
	}
	return top
}

// scalars returns what e holds for st: one scalar, or the items of a list.
func (r *yamlReader) scalars(st *Setting, e entry) ([]scalar, error) {
	if !st.list {
		text, form, ok := scalarText(e.value)
		if !ok {
			return nil, e.wrong(excerpt(e.value), describe(e.value), st.Want)
		}
		return []scalar{{text, form, e.origin}}, nil
	}
	want := "a list, in it " + st.Want
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return nil, e.wrong(excerpt(e.value), describe(e.value)+", not a list", want)
	}
	var values []scalar
	for _, item := range list.Values {
		node, err := r.resolve(item)
		origin := r.at(item, e.origin)
		if err != nil {
			return nil, wrongValue(origin, e.path, excerpt(item), err.Error(), want)
		}
		text, form, ok := scalarText(node)
		if !ok {
			return nil, wrongValue(origin, e.path, excerpt(node), describe(node)+" in a list", want)
		}
		values = append(values, scalar{text, form, origin})
	}
	return values, nil
}

// setter stores a value by the same function that flags and the environment use.
func (r *yamlReader) setter(s *Settings, st *Setting) member {
	return member{read: func(e entry) error {
		values, err := r.scalars(st, e)
		if err != nil {
			return err
		}
		return st.set(s, e.path, values)
	}}
}

// listeners reads each endpoint as if it were listener.
func (r *yamlReader) listeners(s *Settings, e entry) error {
	list, ok := e.value.(*ast.SequenceNode)
	if !ok {
		return e.wrong(excerpt(e.value), describe(e.value), "a list of mappings with the keys of listener")
	}
	s.Proxy.Listeners = nil
	for i, item := range list.Values {
		scratch := &Settings{listener: listen.DefaultConfig(), home: s.home}
		keys := make(members)
		for i := range table {
			if name, found := strings.CutPrefix(table[i].Key, "listener."); found {
				keys[name] = r.setter(scratch, &table[i])
			}
		}
		at := entry{fmt.Sprintf("%s[%d]", e.path, i), r.at(item, e.origin), item}
		if err := r.structure(at, keys); err != nil {
			return err
		}
		s.Proxy.Listeners = append(s.Proxy.Listeners, scratch.listener)
	}
	return nil
}

// structure reads a mapping that stands on its own in a list or under an alias: unlike a key, it cannot be null.
func (r *yamlReader) structure(e entry, keys members) error {
	var err error
	if e.value, err = r.resolve(e.value); err != nil {
		return e.wrong("", err.Error(), "a mapping of "+keys.String())
	}
	r.origin[e.path] = e.origin
	return r.mapping(e, keys)
}

// mapping reads the keys of e, which are to be among keys. A key that is null is not set.
func (r *yamlReader) mapping(e entry, keys members) error {
	return r.eachKey(e, keys.String(), func(name string, at entry) error {
		key, known := keys[name]
		if !known {
			return r.unknownKey(name, at, keys)
		}
		node, err := r.resolve(at.value)
		if err != nil {
			return at.wrong(excerpt(at.value), err.Error(), "the value itself")
		}
		if isNull(node) && !key.takesNull {
			return nil
		}
		at.value = node
		r.origin[at.path] = at.origin
		return key.read(at)
	})
}

// eachKey calls visit for every key of the mapping e, whose members an error calls content.
func (r *yamlReader) eachKey(e entry, content string, visit func(name string, at entry) error) error {
	node, ok := e.value.(ast.MapNode)
	if !ok {
		return e.wrong(e.excerpt(), describe(e.value), "a mapping of "+content)
	}
	lines := make(map[string]int)
	for m := node.MapRange(); m.Next(); {
		key, line, err := r.key(m.Key())
		if err != nil {
			return err
		}
		at := entry{join(e.path, key), fmt.Sprintf("%s:%d", r.file, line), m.Value()}
		if first, repeated := lines[key]; repeated {
			return at.wrong(at.excerpt(), fmt.Sprintf("repeated key, first on line %d", first), "each key once")
		}
		lines[key] = line
		if err := visit(key, at); err != nil {
			return err
		}
	}
	return nil
}

// join returns the path of a key, which is quoted where it would spoil an error's text.
func join(path, key string) string {
	if quoted := Quote(key); quoted != `"`+key+`"` {
		key = quoted
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// key returns the text of a key and its line.
func (r *yamlReader) key(node ast.Node) (string, int, error) {
	line := node.GetToken().Position.Line
	if _, merge := node.(*ast.MergeKeyNode); merge {
		return "", 0, fmt.Errorf("%s:%d: <<: merge keys are not taken; want the keys themselves", r.file, line)
	}
	if explicit, ok := node.(*ast.MappingKeyNode); ok {
		node = explicit.Value
	}
	resolved, err := r.resolve(node)
	if err != nil {
		return "", 0, fmt.Errorf("%s:%d: %w; want a key", r.file, line, err)
	}
	text, _, ok := scalarText(resolved)
	if !ok {
		return "", 0, fmt.Errorf("%s:%d: %s is %s; want a key", r.file, line, Quote(excerpt(resolved)), describe(resolved))
	}
	return text, line, nil
}

// unknownKey says what name was meant to be: another key of its mapping, or one of a mapping within the file.
func (r *yamlReader) unknownKey(name string, at entry, keys members) error {
	unknown := fmt.Sprintf("%s: %s: %s: unknown key", at.origin, at.path, Quote(at.excerpt()))
	if near := Nearest(name, keys.names()); near != "" {
		return fmt.Errorf("%s; did you mean %s?", unknown, near)
	}
	if nested := at.path != join("", name); nested {
		return fmt.Errorf("%s; want %s", unknown, keys)
	}
	for i := range table {
		group, last, nested := strings.Cut(table[i].Key, ".")
		if nested && Nearest(name, []string{table[i].Key, last}) != "" {
			return fmt.Errorf("%s; did you mean %s within %s?", unknown, last, group)
		}
	}
	return fmt.Errorf("%s; want one that whsentry --help lists", unknown)
}

func (m members) names() []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (m members) String() string { return strings.Join(m.names(), ", ") }

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
