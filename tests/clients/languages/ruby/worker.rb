# A worker: serves the sessions of a task by repeating what is said, word by word.
#
#     ruby -I gen worker.rb my-task
#
# With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run, as
# for an upgrade; `/close` makes it close the session.
require "json"
require "securerandom"
require "continuo/v1/channel_service_services_pb"
require "continuo/v1/run_service_services_pb"
require "continuo/v1/session_service_services_pb"
require "continuo/v1/worker_service_services_pb"

include Continuo::V1

KEY = ENV.fetch("CONTINUO_SECRET_KEY")
TARGET = [ENV.fetch("CONTINUO_URL").delete_prefix("http://"), :this_channel_is_insecure].freeze
CHANNELS = ChannelService::Stub.new(*TARGET)
RUNS = RunService::Stub.new(*TARGET)
SESSIONS = SessionService::Stub.new(*TARGET)
IDLE_MS = 1000

Thread.abort_on_exception = true

def report(event, **fields)
  $stdout.puts JSON.generate(event: event, **fields)
  $stdout.flush
end

def bearer(token)
  { "authorization" => "Bearer #{token}" }
end

# What is put into the queue is sent, until it is closed.
def messages(queue)
  Enumerator.new { |out| while (message = queue.pop) do out << message end }
end

class Worker
  def initialize
    @outgoing = Queue.new
    @tokens = {} # by lease, of the leases that are held
  end

  def send(**message)
    @outgoing << WorkRequest.new(**message)
  end

  def work(task)
    send(hello: WorkerHello.new(worker_id: SecureRandom.uuid, task_identifiers: [task], capacity: 10))
    WorkerService::Stub.new(*TARGET).work(messages(@outgoing), metadata: bearer(KEY)) do |message|
      case message.message
      when :welcome then Thread.new { beat(message.welcome.heartbeat_ms / 1000.0) }
      when :assignment then Thread.new { serve(message.assignment) }
      when :renewed then message.renewed.leases.each { |renewed| @tokens[renewed.lease] = renewed.run_token }
      when :revoked then @tokens.delete(message.revoked.lease)
      end
    end
  end

  def beat(seconds)
    loop do
      sleep seconds
      send(heartbeat: WorkerHeartbeat.new(leases: @tokens.keys))
    end
  end

  # One lease of a run, from its assignment to its end.
  def serve(assignment)
    run = assignment.run.id
    lease = LeaseRef.new(run_id: run, lease: assignment.lease)
    @tokens[lease] = assignment.run_token
    if assignment.resumed_by
      report("resumed", run: run)
    else
      report("took", run: run, continuation: JSON.parse(assignment.run.payload).fetch("continuation", false))
      send(started: AttemptStarted.new(lease: lease))
    end
    output = converse(assignment, lease)
    if output.nil?
      send(suspended: AttemptSuspended.new(lease: lease))
    else
      send(completed: AttemptCompleted.new(lease: lease, output: JSON.generate(output)))
    end
  rescue GRPC::BadStatus => error
    send(failed: AttemptFailed.new(lease: lease, error: RunError.new(name: error.class.name, message: error.message)))
  ensure
    @tokens.delete(lease)
  end

  # Answers until the run is over; its output, or nothing where it was suspended.
  def converse(assignment, lease)
    run, session, next_seq_num = assignment.run.id, assignment.session.id, assignment.in_seq_num
    attachment = Attachment.new(session, next_seq_num, assignment.run_token)
    loop do
      record = attachment.next
      if record.nil?
        next unless suspended?(assignment, lease, next_seq_num)
        report("suspended", run: run)
        return nil
      end
      next_seq_num = record.seq_num + 1
      attachment.send(read_seq_num: next_seq_num)
      record.body.split.each { |word| attachment.append(NewRecord.new(body: word)) }
      attachment.append(turn_complete(record.seq_num))
      attachment.flush
      case record.body
      when "/hand-over"
        request = EndAndContinueRequest.new(session: session, calling_run_id: run, reason: "upgrade")
        swapped = SESSIONS.end_and_continue(request, metadata: bearer(@tokens[lease]))
        report("handed over", run: run, next: swapped.run_id)
        return "handed over"
      when "/close"
        request = CloseSessionRequest.new(session: session, reason: "said so", calling_run_id: run)
        SESSIONS.close_session(request, metadata: bearer(KEY))
        report("closed", run: run)
        return "closed"
      end
    end
  ensure
    attachment&.leave
  end

  # Gives the place back until there is input; false if there is some already.
  def suspended?(assignment, lease, next_seq_num)
    run, session = assignment.run.id, assignment.session.id
    wait = WaitOnChannelRequest.new(run_id: run, session: session, direction: :DIRECTION_IN)
    wait.last_seq_num = next_seq_num - 1 if next_seq_num > 0
    waitpoint = RUNS.wait_on_channel(wait, metadata: bearer(@tokens[lease])).waitpoint
    return false if waitpoint.completed_at
    suspend = SuspendOnWaitpointRequest.new(run_id: run, waitpoint_id: waitpoint.id, lease: lease.lease)
    RUNS.suspend_on_waitpoint(suspend, metadata: bearer(@tokens[lease]))
    true
  end
end

# The run's side of its session: what it appends goes to `.out`, and it reads `.in`.
class Attachment
  def initialize(session, next_seq_num, token)
    @outgoing, @inbox, @pending = Queue.new, [], 0
    start = ReadStart.new(seq_num: next_seq_num)
    send(open: AttachOpen.new(session: session, start: start, heartbeat_ms: IDLE_MS))
    @call = CHANNELS.attach(messages(@outgoing), metadata: bearer(token), return_op: true)
    @incoming = @call.execute
  end

  def send(**message)
    @outgoing << AttachRequest.new(**message)
  end

  def append(record)
    @pending += 1
    send(append: ChannelAppend.new(records: [record]))
  end

  # Until everything appended is durable.
  def flush
    take while @pending > 0
  end

  # The next message, or nothing once there was none for a while.
  def next
    while @inbox.empty?
      return nil if take.heartbeat
    end
    @inbox.shift
  end

  def take
    message = @incoming.next
    @pending -= 1 if message.ack
    # A record with one header without a name is a command of the log itself.
    @inbox.concat(message.batch.records.reject { |r| r.headers.size == 1 && r.headers[0].name.empty? }) if message.batch
    message
  end

  def leave
    @outgoing.close
    @call.cancel
  end
end

def turn_complete(in_seq_num)
  pairs = { "trigger-control" => "turn-complete", "session-in-event-id" => in_seq_num.to_s }
  NewRecord.new(headers: pairs.map { |name, value| Header.new(name: name, value: value) })
end

Worker.new.work(ARGV[0])
