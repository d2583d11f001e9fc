// Keeps a cache up to date: drops sessions that end or change, and resumes after the stream breaks or the process restarts.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	sessionv1 "example.com/watch/gen/session/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

type watch struct {
	client                 sessionv1.SessionServiceClient
	cache                  map[string]any
	position, positionFile string
}

func main() {
	address, positionFile := "localhost:50051", "position"
	if len(os.Args) == 3 {
		address, positionFile = os.Args[1], os.Args[2]
	}
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second}))
	if err != nil {
		panic(err)
	}
	saved, _ := os.ReadFile(positionFile) // There is no file the first time: start from now.
	w := watch{sessionv1.NewSessionServiceClient(connection), map[string]any{}, string(saved), positionFile}
	for delay := 100 * time.Millisecond; ; delay = min(delay*2, 5*time.Second) {
		err := w.follow(func() { delay = 100 * time.Millisecond })
		fmt.Fprintln(os.Stderr, err)
		if status.Code(err) == codes.InvalidArgument { // The service does not accept this position any more: start from now.
			w.position = ""
			w.reset()
		}
		time.Sleep(time.Duration(float64(delay) * (0.5 + rand.Float64())))
	}
}

// follow watches from the saved position on until the stream breaks, and returns why it broke.
func (w *watch) follow(onMessage func()) error {
	request := &sessionv1.WatchInvalidationsRequest{ResumePosition: w.position}
	stream, err := w.client.WatchInvalidations(context.Background(), request)
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		onMessage()
		switch event := message.Event.(type) {
		case *sessionv1.WatchInvalidationsResponse_Invalidation:
			delete(w.cache, event.Invalidation.SessionId)
			fmt.Println("invalidated", event.Invalidation.SessionId)
		case *sessionv1.WatchInvalidationsResponse_Reset_:
			w.reset()
		case *sessionv1.WatchInvalidationsResponse_Opened:
			w.save(event.Opened.Position)
		case *sessionv1.WatchInvalidationsResponse_Checkpoint:
			w.save(event.Checkpoint.Position)
		}
	}
}

func (w *watch) reset() {
	clear(w.cache)
	fmt.Println("reset")
}

// save stores the position. Call it when every change before the position has been handled, and not earlier.
func (w *watch) save(position string) {
	if position == "" { // The last one is still right.
		return
	}
	w.position = position
	if err := os.WriteFile(w.positionFile+".new", []byte(position), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(w.positionFile+".new", w.positionFile); err != nil {
		panic(err)
	}
}
