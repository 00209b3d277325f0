// A worker: serves the sessions of a task by repeating what is said, word by word.
//
//	worker my-task
//
// With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run,
// as for an upgrade; `/close` makes it close the session. When the network breaks or the server restarts, the worker comes back
// under its name, and asks again for what was left open, as long as the run's lease is held.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/continuo/v1"
)

const (
	idleMs = 1000
	pause  = 100 * time.Millisecond
)

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

// The reason that the server gave; without one it was the network.
func errorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	return nil
}

// With these there is no point in coming back with the same key and task.
func isFinal(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.Unimplemented:
		return true
	}
	return false
}

func mayRetry(err error) bool {
	return status.Code(err) == codes.Unavailable || errorInfo(err) == nil
}

type worker struct {
	connection *grpc.ClientConn
	hello      *continuo.WorkerHello
	lock       sync.Mutex // of what follows, and of what is said: nothing falls between two connections
	stream     continuo.WorkerService_WorkClient
	held       map[string]*attempt
}

// A lease of a run, from its assignment until the server revokes it; it does so too when it knows of the run's end.
type attempt struct {
	*worker
	lease      *continuo.LeaseRef
	name       string
	session    string
	nextSeqNum uint64
	token      string                // the newest one
	said       *continuo.WorkRequest // the newest report
	isOver     bool
}

func nameOf(lease *continuo.LeaseRef) string { return fmt.Sprint(lease.RunId, ".", lease.Lease) }

func (w *worker) work() error {
	for {
		err := w.connect()
		if isFinal(err) {
			return err
		}
		report("lost", fields{"code": status.Code(err)})
		time.Sleep(pause)
	}
}

// One stream, until it ends. Says what is still held: the server renews the leases that live on, and revokes the others.
func (w *worker) connect() error {
	ctx, cancel := context.WithCancel(bearer(context.Background(), key))
	defer cancel()
	stream, err := continuo.NewWorkerServiceClient(w.connection).Work(ctx)
	if err != nil {
		return err
	}
	w.lock.Lock()
	w.stream = stream
	w.hello.HeldLeases = w.leases()
	w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Hello{Hello: w.hello}})
	for _, attempt := range w.held {
		if attempt.said != nil {
			w.send(attempt.said)
		}
	}
	w.lock.Unlock()
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		w.take(ctx, message)
	}
}

func (w *worker) leases() (leases []*continuo.LeaseRef) {
	for _, attempt := range w.held {
		leases = append(leases, attempt.lease)
	}
	return leases
}

// What cannot be sent any more is told by Recv.
func (w *worker) send(message *continuo.WorkRequest) { _ = w.stream.Send(message) }

func (a *attempt) tell(message *continuo.WorkRequest) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.said = message
	a.send(message)
}

func (w *worker) take(ctx context.Context, message *continuo.WorkResponse) {
	w.lock.Lock()
	defer w.lock.Unlock()
	switch message := message.Message.(type) {
	case *continuo.WorkResponse_Welcome:
		go w.beat(ctx, time.Duration(message.Welcome.HeartbeatMs)*time.Millisecond)
	case *continuo.WorkResponse_Assignment:
		assignment := message.Assignment
		lease := &continuo.LeaseRef{RunId: assignment.Run.Id, Lease: assignment.Lease}
		a := &attempt{
			worker: w, lease: lease, name: nameOf(lease), session: assignment.Session.Id,
			nextSeqNum: assignment.InSeqNum, token: assignment.RunToken,
		}
		w.held[a.name] = a
		go a.serve(assignment)
	case *continuo.WorkResponse_Renewed:
		for _, renewed := range message.Renewed.Leases {
			if attempt := w.held[nameOf(renewed.Lease)]; attempt != nil {
				attempt.token = renewed.RunToken
			}
		}
	case *continuo.WorkResponse_Revoked:
		if attempt := w.held[nameOf(message.Revoked.Lease)]; attempt != nil {
			attempt.isOver = true
			delete(w.held, attempt.name)
		}
	}
}

func (w *worker) beat(ctx context.Context, period time.Duration) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.lock.Lock()
			heartbeat := &continuo.WorkerHeartbeat{Leases: w.leases()}
			w.send(&continuo.WorkRequest{Message: &continuo.WorkRequest_Heartbeat{Heartbeat: heartbeat}})
			w.lock.Unlock()
		}
	}
}

func (a *attempt) serve(assignment *continuo.Assignment) {
	if assignment.ResumedBy != nil {
		report("resumed", fields{"run": a.lease.RunId})
	} else {
		var payload struct{ Continuation bool }
		_ = json.Unmarshal([]byte(assignment.Run.Payload), &payload)
		report("took", fields{"run": a.lease.RunId, "continuation": payload.Continuation})
		started := &continuo.AttemptStarted{Lease: a.lease}
		a.tell(&continuo.WorkRequest{Message: &continuo.WorkRequest_Started{Started: started}})
	}
	output, err := a.converse()
	if err != nil {
		report("failed", fields{"run": a.lease.RunId, "error": err.Error()})
		reason := &continuo.RunError{Name: status.Code(err).String(), Message: err.Error()}
		failed := &continuo.AttemptFailed{Lease: a.lease, Error: reason}
		a.tell(&continuo.WorkRequest{Message: &continuo.WorkRequest_Failed{Failed: failed}})
	} else if output == "" {
		suspended := &continuo.AttemptSuspended{Lease: a.lease}
		a.tell(&continuo.WorkRequest{Message: &continuo.WorkRequest_Suspended{Suspended: suspended}})
	} else {
		output = strconv.Quote(output)
		completed := &continuo.AttemptCompleted{Lease: a.lease, Output: &output}
		a.tell(&continuo.WorkRequest{Message: &continuo.WorkRequest_Completed{Completed: completed}})
	}
}

// Repeats what a broken network leaves open, with the newest token, until it is answered or the lease is over.
func (a *attempt) persist(call func(context.Context) error) error {
	for {
		a.lock.Lock()
		isOver, token := a.isOver, a.token
		a.lock.Unlock()
		if isOver {
			return errors.New("the lease is over")
		}
		if err := call(bearer(context.Background(), token)); err == nil || !mayRetry(err) {
			return err
		}
		time.Sleep(pause)
	}
}

// Answers until the run is over; its output, or nothing where it was suspended.
func (a *attempt) converse() (string, error) {
	attachment := &attachment{attempt: a, nextSeqNum: a.nextSeqNum}
	defer attachment.leave()
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
				report("suspended", fields{"run": a.lease.RunId})
				return "", nil
			}
			continue
		}
		a.nextSeqNum = record.SeqNum + 1
		for _, word := range strings.Fields(string(record.Body)) {
			attachment.append(&continuo.NewRecord{Body: []byte(word)})
		}
		attachment.append(turnComplete(record.SeqNum))
		if err := attachment.flush(); err != nil {
			return "", err
		}
		switch string(record.Body) {
		case "/hand-over":
			request := &continuo.EndAndContinueRequest{Session: a.session, CallingRunId: a.lease.RunId, Reason: "upgrade"}
			var swapped *continuo.EndAndContinueResponse
			err := a.persist(func(ctx context.Context) (err error) {
				swapped, err = sessions.EndAndContinue(ctx, request)
				return err
			})
			if err != nil {
				return "", err
			}
			report("handed over", fields{"run": a.lease.RunId, "next": swapped.RunId})
			return "handed over", nil
		case "/close":
			reason := "said so"
			request := &continuo.CloseSessionRequest{Session: a.session, Reason: &reason, CallingRunId: &a.lease.RunId}
			err := a.persist(func(context.Context) error {
				_, err := sessions.CloseSession(bearer(context.Background(), key), request)
				return err
			})
			if err != nil {
				return "", err
			}
			report("closed", fields{"run": a.lease.RunId})
			return "closed", nil
		}
	}
}

// Gives the place back until there is input; false if there is some already.
func (a *attempt) isSuspended() (bool, error) {
	runs := continuo.NewRunServiceClient(a.connection)
	// A repeat after a lost answer finds the same waitpoint.
	idempotencyKey := fmt.Sprint(a.name, ".", a.nextSeqNum)
	wait := &continuo.WaitOnChannelRequest{
		RunId: a.lease.RunId, Session: a.session, Direction: continuo.Direction_DIRECTION_IN, IdempotencyKey: &idempotencyKey,
	}
	if a.nextSeqNum > 0 {
		last := a.nextSeqNum - 1
		wait.LastSeqNum = &last
	}
	var waitpoint *continuo.Waitpoint
	err := a.persist(func(ctx context.Context) error {
		answer, err := runs.WaitOnChannel(ctx, wait)
		waitpoint = answer.GetWaitpoint()
		return err
	})
	if err != nil || waitpoint.CompletedAt != nil {
		return false, err
	}
	suspend := &continuo.SuspendOnWaitpointRequest{RunId: a.lease.RunId, WaitpointId: waitpoint.Id, Lease: &a.lease.Lease}
	err = a.persist(func(ctx context.Context) error {
		_, err := runs.SuspendOnWaitpoint(ctx, suspend)
		return err
	})
	return err == nil, err
}

// The run's side of its session: what it appends goes to `.out`, and it reads `.in`. After a break it reads on where it was,
// and appends again what was not acknowledged, under the same part ids, so that it counts once.
type attachment struct {
	attempt        *attempt
	nextSeqNum     uint64
	inbox          []*continuo.Record
	parts          int
	unacknowledged []*continuo.ChannelAppend
	stream         continuo.ChannelService_AttachClient
	cancel         context.CancelFunc
}

func (a *attachment) attach(ctx context.Context) (err error) {
	ctx, a.cancel = context.WithCancel(ctx)
	if a.stream, err = continuo.NewChannelServiceClient(a.attempt.connection).Attach(ctx); err != nil {
		return err
	}
	start := &continuo.ReadStart{Start: &continuo.ReadStart_SeqNum{SeqNum: a.nextSeqNum}}
	open := &continuo.AttachOpen{Session: a.attempt.session, Start: start, HeartbeatMs: idleMs}
	a.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Open{Open: open}})
	for _, said := range a.unacknowledged {
		a.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Append{Append: said}})
	}
	return nil
}

// What cannot be sent any more is told by Recv.
func (a *attachment) send(message *continuo.AttachRequest) {
	if a.stream != nil {
		_ = a.stream.Send(message)
	}
}

func (a *attachment) append(record *continuo.NewRecord) {
	a.parts++
	partID := fmt.Sprint(a.attempt.name, ".", a.parts)
	said := &continuo.ChannelAppend{Records: []*continuo.NewRecord{record}, PartId: &partID}
	a.unacknowledged = append(a.unacknowledged, said)
	a.send(&continuo.AttachRequest{Message: &continuo.AttachRequest_Append{Append: said}})
}

// Until everything appended is durable.
func (a *attachment) flush() error {
	for len(a.unacknowledged) > 0 {
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

func (a *attachment) take() (message *continuo.AttachResponse, err error) {
	err = a.attempt.persist(func(ctx context.Context) (err error) {
		message, err = a.receive(ctx)
		return err
	})
	if message.GetAck() != nil {
		a.unacknowledged = a.unacknowledged[1:]
	}
	for _, record := range message.GetBatch().GetRecords() {
		a.nextSeqNum = record.SeqNum + 1
		// A record with one header without a name is a command of the log itself.
		if len(record.Headers) != 1 || len(record.Headers[0].Name) > 0 {
			a.inbox = append(a.inbox, record)
		}
	}
	return message, err
}

func (a *attachment) receive(ctx context.Context) (message *continuo.AttachResponse, err error) {
	if a.stream == nil {
		err = a.attach(ctx)
	}
	if err == nil {
		message, err = a.stream.Recv()
	}
	if err != nil {
		a.leave()
	}
	return message, err
}

func (a *attachment) leave() {
	if a.cancel != nil {
		a.cancel()
	}
	a.stream, a.cancel = nil, nil
}

// The end of a turn. It also tells the server how far `.in` was read, so that nothing is answered twice.
func turnComplete(inSeqNum uint64) *continuo.NewRecord {
	return &continuo.NewRecord{Headers: []*continuo.Header{
		{Name: []byte("trigger-control"), Value: []byte("turn-complete")},
		{Name: []byte("session-in-event-id"), Value: []byte(strconv.FormatUint(inSeqNum, 10))},
	}}
}

func main() {
	connection, err := grpc.Dial(
		strings.TrimPrefix(os.Getenv("CONTINUO_URL"), "http://"), grpc.WithInsecure(),
		// Pings find out that a connection is dead, and a server that was away is tried again before the leases end.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: pause, Multiplier: 2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		log.Fatal(err)
	}
	host, _ := os.Hostname()
	workerID := fmt.Sprint(host, "-", os.Getpid())
	hello := &continuo.WorkerHello{WorkerId: workerID, TaskIdentifiers: []string{os.Args[1]}, Capacity: 10}
	err = (&worker{connection: connection, hello: hello, held: map[string]*attempt{}}).work()
	info := errorInfo(err)
	report("refused", fields{"code": status.Code(err), "reason": info.GetReason(), "metadata": info.GetMetadata()})
	os.Exit(1)
}
