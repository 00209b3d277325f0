# A worker: serves the sessions of a task by repeating what is said, word by word.
#
#     ruby -I gen worker.rb my-task
#
# With nothing to do for a second, a run waits without holding a place. `/hand-over` makes it hand the session to a new run, as
# for an upgrade; `/close` makes it close the session. The loop in `work_loop.rb` keeps the leases, comes back when the network
# breaks or the server restarts, and asks again for what was left open.
require "json"
require_relative "work_loop"

# Called for a fresh run, and again whenever a run that waited goes on; its output, or nothing where it was suspended.
def echo(run)
  if run.resumed?
    report("resumed", run: run.id)
  else
    report("took", run: run.id, continuation: JSON.parse(run.payload).fetch("continuation", false))
  end
  next_seq_num = run.in_seq_num
  loop do
    record = run.next
    if record.nil?
      # Nothing more is there: give the place back, and be called again when there is.
      next unless run.wait_for_input?(next_seq_num)
      report("suspended", run: run.id)
      return nil
    end
    next_seq_num = record.seq_num + 1
    record.body.split.each { |word| run.append(NewRecord.new(body: word)) }
    run.turn_complete(record.seq_num)
    run.flush
    case record.body
    when "/hand-over"
      report("handed over", run: run.id, next: run.end_and_continue("upgrade"))
      return "handed over"
    when "/close"
      close(run)
      report("closed", run: run.id)
      return "closed"
    end
  end
end

# A run may not close its session, whoever holds the key may.
def close(run)
  request = CloseSessionRequest.new(session: run.session, reason: "said so", calling_run_id: run.id)
  run.ask(SESSIONS.method(:close_session), request, token: KEY)
end

begin
  work(ARGV[0]) { |run| echo(run) }
rescue GRPC::BadStatus => error
  info = error_info(error)
  report("refused", code: error.code, reason: info&.reason, metadata: info&.metadata.to_h)
  exit 1
end
