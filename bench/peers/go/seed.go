// Creates sessions as large as those of the other peers, and prints their tokens.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"time"

	sessionv1 "example.com/peer/gen/session/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	idleTimeout     = 24 * time.Hour
	absoluteTimeout = 30 * 24 * time.Hour
	batch           = 1000
	// The same as in contract.ts.
	ipAddress = "203.0.113.7"
	userAgent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.3537.100"
)

func (s *service) seed(ctx context.Context, count int) error {
	out := bufio.NewWriter(os.Stdout)
	for done := 0; done < count; {
		pipeline := s.redis.Pipeline()
		for ; pipeline.Len() < batch && done < count; done++ {
			token, key, value, err := s.newSession()
			if err != nil {
				return err
			}
			pipeline.Set(ctx, key, value, idleTimeout)
			fmt.Fprintln(out, token)
		}
		if _, err := pipeline.Exec(ctx); err != nil {
			return err
		}
	}
	return out.Flush()
}

func (s *service) newSession() (token, key string, value []byte, err error) {
	signed := make([]byte, signedBytes)
	rand.Read(signed[kidBytes:])
	signed[kidBytes-1] = 1
	sessionID := base64.RawURLEncoding.EncodeToString(signed[kidBytes : kidBytes+sessionIDBytes])
	data, err := structpb.NewStruct(map[string]any{"data": strings.Repeat("d", 100)})
	if err != nil {
		return
	}
	now := time.Now()
	encoded, err := proto.Marshal(&sessionv1.Session{
		SessionId:          sessionID,
		Version:            1,
		CreateTime:         timestamppb.New(now),
		LastAccessTime:     timestamppb.New(now),
		ExpireTime:         timestamppb.New(now.Add(idleTimeout)),
		AbsoluteExpireTime: timestamppb.New(now.Add(absoluteTimeout)),
		UserId:             randomUserID(),
		IpAddress:          ipAddress,
		UserAgent:          userAgent,
		Data:               data,
	})
	digest := sha256.Sum256(signed[kidBytes+sessionIDBytes:])
	token = prefix + base64.RawURLEncoding.EncodeToString(append(signed, s.mac(signed)...))
	return token, keyPrefix + sessionID, append(digest[:], encoded...), err
}

// randomUserID returns an id as long as a UUID.
func randomUserID() string {
	bytes := make([]byte, 18)
	rand.Read(bytes)
	return fmt.Sprintf("%x", bytes)
}
