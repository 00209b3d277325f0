// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//	worker my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/continuo/v1"
)

const idleMs = 1000

var key = os.Getenv("CONTINUO_SECRET_KEY")

type fields map[string]interface{}

func report(event string, more fields) {
	more["event"] = event
	line, _ := json.Marshal(more)
	fmt.Println(string(line))
}

func bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

type worker struct {
	connection *grpc.ClientConn
	stream     continuo.WorkerService_WorkClient
	lock       sync.Mutex // of the stream's sending side and of what follows
	held       map[string]*attempt
}

// One lease of a run, from its assignment to its end.
type attempt struct {
	*worker
	lease      *continuo.LeaseRef
	run        string
	session    string
	token      string // the newest one
	nextSeqNum uint64
}

func nameOf(lease *continuo.LeaseRef) string { return fmt.Sprint(lease.RunId, " ", lease.Lease) }

// What cannot be sent any more is told by Recv.
func (w *worker) send(message *continuo.WorkRequest) {
	w.lock.Lock()
	defer w.lock.Unlock()
	_ = w.stream.Send(message)
}

func (w *worker) work(task string) error {
	stream, err := continuo.NewWorkerServiceClient(w.connection).Work(bearer(context.Background(), key))
	if err != nil {
		return err
	}
	w.stream = stream
	host, _ := os.Hostname()
	hello := &continuo.WorkerHello{WorkerId: fmt.Sprint(host, "-", os.Getpid()), TaskIdentifiers: []string{task}, Capacity: 10}
	w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Hello{Hello: hello}})
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		switch message := message.Message.(type) {
		case *continuo.WorkResponse_Welcome:
			go w.beat(time.Duration(message.Welcome.HeartbeatMs) * time.Millisecond)
		case *continuo.WorkResponse_Assignment:
			go w.serve(message.Assignment)
		case *continuo.WorkResponse_Renewed:
			for _, renewed := range message.Renewed.Leases {
				w.renew(renewed)
			}
		case *continuo.WorkResponse_Revoked:
			w.drop(message.Revoked.Lease)
		}
	}
}

func (w *worker) beat(pause time.Duration) {
	for range time.Tick(pause) {
		heartbeat := &continuo.WorkerHeartbeat{}
		w.lock.Lock()
		for _, attempt := range w.held {
			heartbeat.Leases = append(heartbeat.Leases, attempt.lease)
		}
		w.lock.Unlock()
		w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Heartbeat{Heartbeat: heartbeat}})
	}
}

func (w *worker) renew(renewed *continuo.RenewedLease) {
	w.lock.Lock()
	defer w.lock.Unlock()
	if attempt := w.held[nameOf(renewed.Lease)]; attempt != nil {
		attempt.token = renewed.RunToken
	}
}

func (w *worker) drop(lease *continuo.LeaseRef) {
	w.lock.Lock()
	defer w.lock.Unlock()
	delete(w.held, nameOf(lease))
}

func (w *worker) serve(assignment *continuo.Assignment) {
	lease := &continuo.LeaseRef{RunId: assignment.Run.Id, Lease: assignment.Lease}
	a := &attempt{
		worker: w, lease: lease, run: assignment.Run.Id, session: assignment.Session.Id,
		token: assignment.RunToken, nextSeqNum: assignment.InSeqNum,
	}
	w.lock.Lock()
	w.held[nameOf(lease)] = a
	w.lock.Unlock()
	defer w.drop(lease)
	if assignment.ResumedBy != nil {
		report("resumed", fields{"run": a.run})
	} else {
		var payload struct{ Continuation bool }
		_ = json.Unmarshal([]byte(assignment.Run.Payload), &payload)
		report("took", fields{"run": a.run, "continuation": payload.Continuation})
		w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Started{Started: &continuo.AttemptStarted{Lease: lease}}})
	}
	output, err := a.converse()
	if err != nil {
		reason := &continuo.RunError{Name: status.Code(err).String(), Message: err.Error()}
		failed := &continuo.AttemptFailed{Lease: lease, Error: reason}
		w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Failed{Failed: failed}})
	} else if output == "" {
		suspended := &continuo.AttemptSuspended{Lease: lease}
		w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Suspended{Suspended: suspended}})
	} else {
		output = strconv.Quote(output)
		completed := &continuo.AttemptCompleted{Lease: lease, Output: &output}
		w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Completed{Completed: completed}})
	}
}

func (a *attempt) asRun() context.Context {
	a.lock.Lock()
	defer a.lock.Unlock()
	return bearer(context.Background(), a.token)
}

// Answers until the run is over; its output, or nothing where it was suspended.
func (a *attempt) converse() (string, error) {
	ctx, cancel := context.WithCancel(a.asRun())
	defer cancel()
	attachment, err := a.attach(ctx)
	if err != nil {
		return "", err
	}
	sessions := continuo.NewSessionServiceClient(a.connection)
	for {
		record, err := attachment.next()
		if err != nil {
			return "", err
		}
		if record == nil {
			isSuspended, err := a.isSuspended()
			if err != nil {
				return "", err
			}
			if isSuspended {
				report("suspended", fields{"run": a.run})
				return "", nil
			}
			continue
		}
		a.nextSeqNum = record.SeqNum + 1
		attachment.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_ReadSeqNum{ReadSeqNum: a.nextSeqNum}})
		for _, word := range strings.Fields(string(record.Body)) {
			attachment.append(&continuo.NewRecord{Body: []byte(word)})
		}
		attachment.append(turnComplete(record.SeqNum))
		if err := attachment.flush(); err != nil {
			return "", err
		}
		switch string(record.Body) {
		case "/hand-over":
			request := &continuo.EndAndContinueRequest{Session: a.session, CallingRunId: a.run, Reason: "upgrade"}
			swapped, err := sessions.EndAndContinue(a.asRun(), request)
			if err != nil {
				return "", err
			}
			report("handed over", fields{"run": a.run, "next": swapped.RunId})
			return "handed over", nil
		case "/close":
			reason := "said so"
			request := &continuo.CloseSessionRequest{Session: a.session, Reason: &reason, CallingRunId: &a.run}
			if _, err := sessions.CloseSession(bearer(context.Background(), key), request); err != nil {
				return "", err
			}
			report("closed", fields{"run": a.run})
			return "closed", nil
		}
	}
}

// Gives the place back until there is input; false if there is some already.
func (a *attempt) isSuspended() (bool, error) {
	runs := continuo.NewRunServiceClient(a.connection)
	wait := &continuo.WaitOnChannelRequest{RunId: a.run, Session: a.session, Direction: continuo.Direction_DIRECTION_IN}
	if a.nextSeqNum > 0 {
		last := a.nextSeqNum - 1
		wait.LastSeqNum = &last
	}
	answer, err := runs.WaitOnChannel(a.asRun(), wait)
	if err != nil || answer.Waitpoint.CompletedAt != nil {
		return false, err
	}
	suspend := &continuo.SuspendOnWaitpointRequest{RunId: a.run, WaitpointId: answer.Waitpoint.Id, Lease: &a.lease.Lease}
	_, err = runs.SuspendOnWaitpoint(a.asRun(), suspend)
	return err == nil, err
}

// The run's side of its session: what it appends goes to `.out`, and it reads `.in`.
type attachment struct {
	stream  continuo.ChannelService_AttachClient
	inbox   []*continuo.Record
	pending int
}

func (a *attempt) attach(ctx context.Context) (*attachment, error) {
	stream, err := continuo.NewChannelServiceClient(a.connection).Attach(ctx)
	if err != nil {
		return nil, err
	}
	start := &continuo.ReadStart{Start: &continuo.ReadStart_SeqNum{SeqNum: a.nextSeqNum}}
	open := &continuo.AttachOpen{Session: a.session, Start: start, HeartbeatMs: idleMs}
	attached := &attachment{stream: stream}
	attached.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Open{Open: open}})
	return attached, nil
}

// What cannot be sent any more is told by Recv.
func (a *attachment) send(message *continuo.AttachRequest) { _ = a.stream.Send(message) }

func (a *attachment) append(record *continuo.NewRecord) {
	a.pending++
	said := &continuo.ChannelAppend{Records: []*continuo.NewRecord{record}}
	a.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Append{Append: said}})
}

// Until everything appended is durable.
func (a *attachment) flush() error {
	for a.pending > 0 {
		if _, err := a.take(); err != nil {
			return err
		}
	}
	return nil
}

// The next message, or nothing once there was none for a while.
func (a *attachment) next() (*continuo.Record, error) {
	for len(a.inbox) == 0 {
		message, err := a.take()
		if err != nil || message.GetHeartbeat() != nil {
			return nil, err
		}
	}
	record := a.inbox[0]
	a.inbox = a.inbox[1:]
	return record, nil
}

func (a *attachment) take() (*continuo.AttachResponse, error) {
	message, err := a.stream.Recv()
	if message.GetAck() != nil {
		a.pending--
	}
	for _, record := range message.GetBatch().GetRecords() {
		// A record with one header without a name is a command of the log itself.
		if len(record.Headers) != 1 || len(record.Headers[0].Name) > 0 {
			a.inbox = append(a.inbox, record)
		}
	}
	return message, err
}

func turnComplete(inSeqNum uint64) *continuo.NewRecord {
	return &continuo.NewRecord{Headers: []*continuo.Header{
		{Name: []byte("trigger-control"), Value: []byte("turn-complete")},
		{Name: []byte("session-in-event-id"), Value: []byte(strconv.FormatUint(inSeqNum, 10))},
	}}
}

func main() {
	connection, err := grpc.Dial(strings.TrimPrefix(os.Getenv("CONTINUO_URL"), "http://"), grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal((&worker{connection: connection, held: map[string]*attempt{}}).work(os.Args[1]))
}
