package ca

import "context"

func (s *Store) watch(ctx context.Context) { <-ctx.Done() }
