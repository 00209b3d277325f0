// A chat on a session: says each line of standard input and prints what happens, one JSON object a line.
//
//	chat my-chat my-task
//
// What a broken network leaves open is asked for again: the read goes on after the last number seen, and an append that was not
// acknowledged is repeated with its part id, so that it counts once.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/continuo/v1"
)

type fields map[string]interface{}

func report(event string, more fields) {
	more["event"] = event
	line, _ := json.Marshal(more)
	fmt.Println(string(line))
}

func bearer(token string) context.Context {
	return metadata.AppendToOutgoingContext(context.Background(), "authorization", "Bearer "+token)
}

// The reason that the server gave; without one it was the network.
func errorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

func mayRetry(err error) bool {
	return status.Code(err) == codes.Unavailable || errorInfo(err) == nil
}

// Makes the session, or finds it; a token for it alone.
func create(connection *grpc.ClientConn, session, task string) (string, error) {
	created, err := continuo.NewSessionServiceClient(connection).CreateSession(
		bearer(os.Getenv("CONTINUO_SECRET_KEY")),
		&continuo.CreateSessionRequest{
			ExternalId:     &session,
			Type:           "chat",
			TaskIdentifier: task,
			TriggerConfig:  &continuo.TriggerConfig{BasePayloadJson: "{}"},
		})
	if err != nil {
		return "", err
	}
	report("created", fields{"session": created.Session.Id, "run": created.RunId, "cached": created.IsCached})
	return created.PublicAccessToken, nil
}

type chat struct {
	channels       continuo.ChannelServiceClient
	session, token string
	nextSeqNum     uint64
	stream         continuo.ChannelService_AttachClient
}

func (c *chat) attach() (err error) {
	report("attached", fields{"start": c.nextSeqNum})
	if c.stream, err = c.channels.Attach(bearer(c.token)); err != nil {
		return err
	}
	start := &continuo.ReadStart{Start: &continuo.ReadStart_SeqNum{SeqNum: c.nextSeqNum}}
	open := &continuo.AttachOpen{Session: c.session, Start: start}
	return c.stream.Send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Open{Open: open}})
}

// What was said, and how far the session has got with it.
type question struct {
	message         *continuo.AttachRequest
	isAcknowledged  bool
	asked, answered int64
}

func (q *question) isOver() bool { return q.isAcknowledged && q.answered >= q.asked }

// Says it, and reads on until the turn that answers it is complete.
func (c *chat) ask(text string) error {
	partID := fmt.Sprintf("%x", random(16))
	said := &continuo.ChannelAppend{Records: []*continuo.NewRecord{{Body: []byte(text)}}, PartId: &partID}
	q := &question{message: &continuo.AttachRequest{Message: &continuo.AttachRequest_Append{Append: said}}, answered: -1}
	for !q.isOver() {
		if err := c.try(q); err != nil {
			c.stream = nil
			if !mayRetry(err) {
				return err
			}
			report("lost", fields{"code": status.Code(err)})
			time.Sleep(100 * time.Millisecond)
		}
	}
	report("answered", fields{})
	return nil
}

func (c *chat) try(q *question) error {
	if c.stream == nil {
		if err := c.attach(); err != nil {
			return err
		}
	}
	if !q.isAcknowledged {
		// Whatever is wrong with the stream is told by Recv.
		_ = c.stream.Send(q.message)
	}
	for !q.isOver() {
		message, err := c.stream.Recv()
		if err != nil {
			return err
		}
		if ack := message.GetAck(); ack != nil {
			q.isAcknowledged, q.asked = true, int64(ack.Start.SeqNum)
			report("acknowledged", fields{"seq": q.asked, "repeated": ack.Repeated})
		}
		for _, record := range message.GetBatch().GetRecords() {
			c.read(record, q)
		}
	}
	return nil
}

func (c *chat) read(record *continuo.Record, q *question) {
	c.nextSeqNum = record.SeqNum + 1
	var control interface{}
	for _, header := range record.Headers {
		switch string(header.Name) {
		case "trigger-control", "": // A header without a name makes a command of the log itself.
			control = string(header.Value)
		case "session-in-event-id":
			q.answered, _ = strconv.ParseInt(string(header.Value), 10, 64)
		}
	}
	report("record", fields{"seq": record.SeqNum, "text": string(record.Body), "control": control})
}

func random(count int) []byte {
	bytes := make([]byte, count)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return bytes
}

func run(session, task string) error {
	address := strings.TrimPrefix(os.Getenv("CONTINUO_URL"), "http://")
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer connection.Close()
	token, err := create(connection, session, task)
	if err != nil {
		return err
	}
	c := &chat{channels: continuo.NewChannelServiceClient(connection), session: session, token: token}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := c.ask(lines.Text()); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		info := errorInfo(err)
		report("refused", fields{"code": status.Code(err), "reason": info.GetReason(), "metadata": info.GetMetadata()})
		os.Exit(1)
	}
}
