//! Runs as callers see them: trigger, look, list, cancel, label.

use crate::Core;
use continuo_domain::blob::STORED_TYPE;
use continuo_domain::error::Violations;
use continuo_domain::principal::{Action, Principal, Resource};
use continuo_domain::run::{Holder, MetadataUpdate, NewRun, Parent, Run, RunCommand, RunStatus};
use continuo_domain::session::{PAGE_SIZE_MAX, SessionRef, check_tags};
use continuo_domain::{Error, Result, RunId, Timestamp, Violation, WaitpointId};
use continuo_ports::run_store::{NewTrigger, Page, PageFrom, ParentWait, RunFilter, Triggered};

/// Life of the token that comes with a triggered run: 1 hour.
const RUN_READ_TOKEN_MS: u64 = 3_600_000;
/// Most children that are shown beside a run.
const CHILDREN_MAX: u32 = 100;

/// The run that triggers another one.
#[derive(Clone, Debug)]
pub struct TriggeredBy {
    /// The run.
    pub run: RunId,
    /// It is suspended until the other one is over.
    pub waits: bool,
    /// The lease it acts on; none acts on whatever it does now.
    pub lease: Option<u64>,
}

/// A run with those it was triggered by and those it triggered.
#[derive(Clone, Debug)]
pub struct RunFamily {
    /// The run.
    pub run: Run,
    /// The run that triggered it.
    pub parent: Option<Run>,
    /// The run at the top.
    pub root: Option<Run>,
    /// The runs it triggered, newest first; the newest of many.
    pub children: Vec<Run>,
}

impl Core {
    /// A fresh id for a run that is about to be triggered.
    pub fn new_run_id(&self) -> RunId {
        RunId::from_body(&self.ports.ids.next())
    }

    /// Queues a run of a task. A task is a name and needs no registration, unless tasks are strict.
    pub async fn trigger_run(
        &self,
        caller: &Principal,
        mut run: NewRun,
        by: Option<TriggeredBy>,
    ) -> Result<(Triggered, String)> {
        run.check()?;
        if !caller.may(Action::Trigger, &[Resource::task(&run.task_identifier)]) {
            return Err(Error::PermissionDenied);
        }
        // Who may read a run may read its payload, so the packet it names must be one that the caller may name.
        if run.payload_type == STORED_TYPE && !caller.has_secret_key() && caller.run().is_none() {
            return Err(Violation::new(
                "payload_type",
                "application/store is for keys and runs; send the payload itself",
            )
            .into());
        }
        if self.settings.tasks_strict
            && !self.ports.workers.knows_task(&caller.environment, &run.task_identifier).await?
        {
            return Err(Error::TaskNotFound);
        }
        let mut wait = None;
        if let Some(by) = by {
            let parent = self.own_parent(caller, &by).await?;
            run.parent = Some(Parent::of_child(&parent, by.waits));
            let holder = by.lease.map_or(Holder::Owner, Holder::Lease);
            let waitpoint = WaitpointId::from_body(&self.ports.ids.next());
            wait = by.waits.then_some(ParentWait { holder, waitpoint });
        }
        let trigger = NewTrigger { run, one_time_token: caller.one_time_token().cloned(), wait };
        let made = self.ports.runs.trigger(trigger, self.now()).await?;
        self.signals.work_changed(&caller.environment);
        if let Some((_, parent)) = &made.wait {
            self.after_run_change(parent).await;
        }
        let id = &made.row.spec.id;
        let scopes = [format!("read:runs:{id}"), format!("write:inputStreams:{id}")];
        let token = self.mint_for(caller, &scopes, RUN_READ_TOKEN_MS).await?;
        Ok((made, token))
    }

    /// The run that triggers, for somebody who may act for it. A run that is over triggers nothing any more.
    async fn own_parent(&self, caller: &Principal, by: &TriggeredBy) -> Result<Run> {
        if !caller.has_secret_key() {
            return Err(Error::PermissionDenied);
        }
        let parent = self.ports.runs.get(&caller.environment, &by.run).await?;
        let parent = parent.ok_or_else(|| Violation::new("parent_run_id", "names no run of this environment"))?;
        if parent.is_alive() { Ok(parent) } else { Err(Error::RunNotReady { status: parent.status.public() }) }
    }

    /// One run, and those around it that the caller may see: a token for one run sees that run.
    pub async fn get_family(&self, caller: &Principal, run: &RunId) -> Result<RunFamily> {
        let run = self.get_run(caller, run).await?;
        if !caller.may(Action::Read, &[Resource::all("runs")]) {
            return Ok(RunFamily { run, parent: None, root: None, children: Vec::new() });
        }
        let runs = &self.ports.runs;
        let (mut parent, mut root) = (None, None);
        if let Some(above) = &run.spec.parent {
            parent = runs.get(&caller.environment, &above.run).await?;
            root = runs.get(&caller.environment, &above.root).await?;
        }
        let filter = RunFilter { parent: Some(run.spec.id.clone()), ..RunFilter::default() };
        let children = runs.list(&caller.environment, &filter, &PageFrom::Start, CHILDREN_MAX).await?.rows;
        Ok(RunFamily { run, parent, root, children })
    }

    /// One run.
    pub async fn get_run(&self, caller: &Principal, run: &RunId) -> Result<Run> {
        self.run_for(caller, Action::Read, run).await
    }

    /// A page of runs, newest first. With a session: its runs only.
    pub async fn list_runs(
        &self,
        caller: &Principal,
        mut filter: RunFilter,
        session: Option<&SessionRef>,
        from: &PageFrom<RunId>,
        size: u32,
    ) -> Result<Page<Run>> {
        if !caller.has_secret_key() || !caller.may(Action::Read, &[Resource::all("runs")]) {
            return Err(Error::PermissionDenied);
        }
        if let Some(asked) = session {
            let Some(row) = self.find_session(caller, asked).await? else {
                return Ok(Page { rows: Vec::new(), has_older: false, has_newer: false });
            };
            filter.session = Some(row.id);
        }
        self.ports.runs.list(&caller.environment, &filter, from, size.clamp(1, PAGE_SIZE_MAX)).await
    }

    /// Gives a delayed run another start.
    pub async fn reschedule_run(&self, caller: &Principal, run: &RunId, at: Timestamp) -> Result<Run> {
        self.run_for(caller, Action::Write, run).await?;
        let command = RunCommand::Reschedule { at };
        let applied = self.ports.runs.apply(&caller.environment, run, command, self.now()).await?;
        self.after_run_change(&applied).await;
        Ok(applied.run)
    }

    /// Ends a run: CANCELED is durable, and its writes are fenced off, before this returns.
    pub async fn cancel_run(&self, caller: &Principal, run: &RunId) -> Result<Run> {
        self.run_for(caller, Action::Write, run).await?;
        let command = RunCommand::Cancel { reason: "It was canceled by a caller".into() };
        let applied = self.ports.runs.apply(&caller.environment, run, command, self.now()).await?;
        if let (RunStatus::Canceled, Some(session)) = (applied.run.status, &applied.run.spec.session) {
            // Not left to what follows a change, which may fail quietly: a repeat of the cancel raises it, too.
            self.raise_fence(session, applied.run.session_version, applied.run.snapshot).await?;
        }
        self.after_run_change(&applied).await;
        Ok(applied.run)
    }

    /// Changes a run's metadata, and that of the runs above it.
    pub async fn update_run_metadata(&self, caller: &Principal, run: &RunId, update: MetadataUpdate) -> Result<Run> {
        self.own_run(caller, run).await?;
        self.ports.runs.update_metadata(run, update, self.now()).await
    }

    /// Adds tags to a run.
    pub async fn add_run_tags(&self, caller: &Principal, run: &RunId, tags: Vec<String>) -> Result<Run> {
        let row = self.own_run(caller, run).await?;
        let mut all = row.spec.tags;
        all.extend(tags.iter().filter(|t| !all.contains(t)).cloned().collect::<Vec<_>>());
        let mut found = Violations::new();
        check_tags("tags", &all, &mut found);
        found.finish()?;
        self.ports.runs.add_tags(run, tags, self.now()).await
    }

    /// The run, for a caller whose scopes cover it. Missing and forbidden look the same to one whose scopes do not.
    async fn run_for(&self, caller: &Principal, action: Action, run: &RunId) -> Result<Run> {
        if !caller.may(action, &[Resource::run(run), Resource::all("runs")]) {
            return Err(Error::PermissionDenied);
        }
        self.ports.runs.get(&caller.environment, run).await?.ok_or(Error::RunNotFound)
    }

    /// The run, for a key or for the run itself.
    pub(crate) async fn own_run(&self, caller: &Principal, run: &RunId) -> Result<Run> {
        let is_itself = caller.run().is_some_and(|claim| claim.run == *run);
        if !is_itself && !caller.has_secret_key() {
            return Err(Error::PermissionDenied);
        }
        self.run_for(caller, Action::Write, run).await
    }
}
