package mqtt

// Sessions is how many connections are being served, welcome or not yet.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}
