// A service that implements ValidateToken and nothing else, as one would write it in Go, with the same contract and checks.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	sessionv1 "example.com/peer/gen/session/v1"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	prefix         = "sat1_"
	kidBytes       = 2
	sessionIDBytes = 21
	secretBytes    = 32
	signedBytes    = kidBytes + sessionIDBytes + secretBytes
	tokenBytes     = signedBytes + sha256.Size
	tenant         = "default"
	keyPrefix      = "go:"
)

type service struct {
	sessionv1.UnimplementedSessionServiceServer
	redis *redis.Client
	key   []byte
}

var invalid = &sessionv1.ValidateTokenResponse{Verdict: sessionv1.Verdict_VERDICT_INVALID}

func main() {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	must(err)
	key, err := hex.DecodeString(os.Getenv("TOKEN_KEY"))
	must(err)
	if len(key) != sha256.Size {
		must(errors.New("TOKEN_KEY is not 32 bytes in hex"))
	}
	s := &service{redis: redis.NewClient(options), key: key}
	if len(os.Args) == 3 && os.Args[1] == "seed" {
		count, err := strconv.Atoi(os.Args[2])
		must(err)
		must(s.seed(context.Background(), count))
		return
	}
	s.serve()
}

func (s *service) serve() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "0"
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	must(err)
	server := grpc.NewServer()
	sessionv1.RegisterSessionServiceServer(server, s)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		<-ended
		server.Stop()
	}()
	fmt.Println("listening", listener.Addr())
	must(server.Serve(listener))
}

func (s *service) ValidateToken(
	ctx context.Context, request *sessionv1.ValidateTokenRequest,
) (*sessionv1.ValidateTokenResponse, error) {
	token, ok := s.open(request.Token)
	if !ok {
		return invalid, nil
	}
	sessionID := base64.RawURLEncoding.EncodeToString(token[kidBytes : kidBytes+sessionIDBytes])
	stored, err := s.redis.Get(ctx, keyPrefix+sessionID).Bytes()
	if errors.Is(err, redis.Nil) {
		return invalid, nil
	}
	if err != nil || len(stored) < sha256.Size {
		return nil, status.Error(codes.Unavailable, "the store did not reply")
	}
	digest := sha256.Sum256(token[kidBytes+sessionIDBytes : signedBytes])
	if subtle.ConstantTimeCompare(digest[:], stored[:sha256.Size]) != 1 {
		return invalid, nil
	}
	session := &sessionv1.Session{}
	if err := proto.Unmarshal(stored[sha256.Size:], session); err != nil {
		return nil, status.Error(codes.Internal, "a session could not be read")
	}
	return &sessionv1.ValidateTokenResponse{Verdict: sessionv1.Verdict_VERDICT_VALID, Session: session}, nil
}

// open returns the bytes of a token that was minted with our key, or false.
func (s *service) open(token string) ([]byte, bool) {
	if len(token) != len(prefix)+base64.RawURLEncoding.EncodedLen(tokenBytes) || token[:len(prefix)] != prefix {
		return nil, false
	}
	bytes, err := base64.RawURLEncoding.DecodeString(token[len(prefix):])
	if err != nil {
		return nil, false
	}
	return bytes, hmac.Equal(bytes[signedBytes:], s.mac(bytes[:signedBytes]))
}

func (s *service) mac(signed []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(prefix))
	mac.Write(signed)
	mac.Write([]byte(tenant))
	return mac.Sum(nil)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
