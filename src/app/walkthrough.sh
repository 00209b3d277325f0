# A session: one identifier of yours, two durable channels, and a run of the demo agent.
$CONTINUO sessions create chat-1 --task demo-agent
# Input goes in; the answer comes out as it is produced.
$CONTINUO sessions send chat-1 "Hello, who is there?" --wait
# Kill the run in mid-answer: the next message continues in a new run, on the same streams.
$CONTINUO sessions send chat-1 "Tell me a long story"
$CONTINUO sessions cancel-run chat-1
$CONTINUO sessions send chat-1 "Are you still there?" --wait
# Hand over to a new run on purpose, then see who served the session, and why.
$CONTINUO sessions end-and-continue chat-1
$CONTINUO sessions runs chat-1
# What was written to which of its channels.
$CONTINUO sessions channels chat-1
# Who is connected to execute runs, and what waits in which queue, since when.
$CONTINUO workers
$CONTINUO queues
# Close it, and see it in the list.
$CONTINUO sessions close chat-1 --reason "done"
$CONTINUO sessions list
