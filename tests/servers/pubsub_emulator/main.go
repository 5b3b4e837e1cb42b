// A local Pub/Sub: the in-memory server of Google's own client library, with a StreamingPull that
// sends batches as soon as there are messages (its own sends one every 10 ms).
//
//	go run . -listen 127.0.0.1:8085
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	pb "cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
)

const (
	batch = 500
	idle  = 5 * time.Millisecond
)

// subscriber streams batches; the rest is Google's.
type subscriber struct {
	*pstest.GServer
}

// StreamingPull sends what unary pulls return. The client bounds what it holds: it stops receiving.
func (s subscriber) StreamingPull(stream pb.Subscriber_StreamingPullServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	get := &pb.GetSubscriptionRequest{Subscription: first.Subscription}
	described, err := s.GetSubscription(stream.Context(), get)
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { received <- s.receive(stream, first) }()
	for {
		select {
		case err := <-received:
			return err
		case <-stream.Context().Done():
			return nil
		default:
		}
		sent, err := s.send(stream, described)
		if err != nil {
			return err
		}
		if sent == 0 {
			time.Sleep(idle)
		}
	}
}

func (s subscriber) send(stream pb.Subscriber_StreamingPullServer, to *pb.Subscription) (int, error) {
	pull := &pb.PullRequest{Subscription: to.Name, MaxMessages: batch, ReturnImmediately: true}
	found, err := s.Pull(stream.Context(), pull)
	if err != nil || len(found.ReceivedMessages) == 0 {
		return 0, err
	}
	properties := &pb.StreamingPullResponse_SubscriptionProperties{
		ExactlyOnceDeliveryEnabled: to.EnableExactlyOnceDelivery,
		MessageOrderingEnabled:     to.EnableMessageOrdering,
	}
	answer := &pb.StreamingPullResponse{ReceivedMessages: found.ReceivedMessages, SubscriptionProperties: properties}
	return len(found.ReceivedMessages), stream.Send(answer)
}

func (s subscriber) receive(stream pb.Subscriber_StreamingPullServer, first *pb.StreamingPullRequest) error {
	for request := first; ; {
		if len(request.AckIds) > 0 {
			ack := &pb.AcknowledgeRequest{Subscription: first.Subscription, AckIds: request.AckIds}
			if _, err := s.Acknowledge(stream.Context(), ack); err != nil {
				return err
			}
		}
		for i, id := range request.ModifyDeadlineAckIds {
			extend := &pb.ModifyAckDeadlineRequest{
				Subscription:       first.Subscription,
				AckIds:             []string{id},
				AckDeadlineSeconds: request.ModifyDeadlineSeconds[i],
			}
			if _, err := s.ModifyAckDeadline(stream.Context(), extend); err != nil {
				return err
			}
		}
		var err error
		if request, err = stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	}
}

func main() {
	address := flag.String("listen", "127.0.0.1:8085", "HOST:PORT to listen on")
	flag.Parse()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Fatal(err)
	}
	fake := pstest.NewServer()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(20 << 20))
	pb.RegisterPublisherServer(server, &fake.GServer)
	pb.RegisterSubscriberServer(server, subscriber{&fake.GServer})
	pb.RegisterSchemaServiceServer(server, &fake.GServer)
	fmt.Println(*address)
	log.Fatal(server.Serve(listener))
}
