package api

import "google.golang.org/grpc"

// Services are the registered services with their methods.
func (s *Server) Services() map[string]grpc.ServiceInfo { return s.grpc.GetServiceInfo() }
