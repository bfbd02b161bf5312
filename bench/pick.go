package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
)

// knownPeers returns the peers that the suite knows and those of the user's file, each with what was found of it. A peer
// of the user's replaces one of the same name.
func knownPeers(ctx context.Context, file string) ([]*peer, error) {
	peers, err := readPeers("peers.yaml", builtinPeers)
	if err != nil {
		return nil, err
	}
	if file != "" {
		text, err := readSmall(file)
		if err != nil {
			return nil, fmt.Errorf("read peers file: %w", err)
		}
		more, err := readPeers(file, text)
		if err != nil {
			return nil, err
		}
		for _, p := range more {
			peers = slices.DeleteFunc(peers, func(old *peer) bool { return old.Name == p.Name })
		}
		peers = append(peers, more...)
	}
	for i, p := range peers {
		if slices.ContainsFunc(peers[:i], func(q *peer) bool { return q.Name == p.Name }) {
			return nil, fmt.Errorf("peers file %s: two peers are called %q", file, p.Name)
		}
		p.find(ctx)
	}
	return peers, nil
}

// maxFile is the largest file that is read whole, bytes.
const maxFile = 4 << 20

// readSmall reads a file of at most maxFile bytes.
func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%s: want a regular file of at most %d bytes", name, maxFile)
	}
	return os.ReadFile(name)
}

// pickPeers returns whsentry and, of the others, those that o asks for: by name, or else every one that is installed.
func pickPeers(all []*peer, o suiteOptions) ([]*peer, error) {
	if len(o.peers) == 1 && o.peers[0] == "none" {
		o.peers = []string{ours}
	}
	for _, name := range o.peers {
		i := slices.IndexFunc(all, func(p *peer) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("--peers: %q is not known; want some of %s, or none", name, strings.Join(peerNames(all), ", "))
		}
		if all[i].path == "" && name != ours {
			return nil, fmt.Errorf("--peers: %s is not installed: no program %q", name, strings.Fields(all[i].Command)[0])
		}
	}
	var picked []*peer
	for _, p := range all {
		wanted := slices.Contains(o.peers, p.Name)
		if len(o.peers) == 0 {
			wanted = p.path != "" && (p.Short || !o.short)
		}
		if wanted || p.Name == ours {
			picked = append(picked, p)
		}
	}
	return picked, nil
}

// peerNames returns the names of peers.
func peerNames(peers []*peer) []string {
	var names []string
	for _, p := range peers {
		names = append(names, p.Name)
	}
	return names
}

// pickScenarios returns the scenarios with the ids asked for, in the suite's own order; all of them for none.
func pickScenarios(ids []string) ([]*scenario, error) {
	all := scenarios()
	var known []string
	for _, s := range all {
		known = append(known, s.id)
	}
	for _, id := range ids {
		if !slices.Contains(known, id) {
			return nil, fmt.Errorf("--scenarios: %q is not known; want some of %s", id, strings.Join(known, ", "))
		}
	}
	if len(ids) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(s *scenario) bool { return !slices.Contains(ids, s.id) }), nil
}
