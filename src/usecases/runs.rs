//! Runs as callers see them: trigger, look, list, cancel, label.

use crate::Core;
use continuo_domain::blob::STORED_TYPE;
use continuo_domain::error::{Violation, Violations};
use continuo_domain::principal::{Action, Principal, Resource};
use continuo_domain::run::{NewRun, Run, RunCommand, RunStatus};
use continuo_domain::session::{Json, PAGE_SIZE_MAX, SessionRef, check_tags};
use continuo_domain::{Error, Result, RunId};
use continuo_ports::run_store::{MadeOrFound, RunFilter};

/// Life of the token that comes with a triggered run: 1 hour.
const RUN_READ_TOKEN_MS: u64 = 3_600_000;

impl Core {
    /// A fresh id for a run that is about to be triggered.
    pub fn new_run_id(&self) -> RunId {
        RunId::from_body(&self.ports.ids.next())
    }

    /// Queues a run of a task. A task is a name and needs no registration, unless tasks are strict.
    pub async fn trigger_run(&self, caller: &Principal, run: NewRun) -> Result<(MadeOrFound<Run>, String)> {
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
        if self.settings.tasks_strict && !self.ports.runs.knows_task(&caller.environment, &run.task_identifier).await? {
            return Err(Error::TaskNotFound);
        }
        let made = self.ports.runs.trigger(run, self.now()).await?;
        self.signals.work_changed();
        let id = &made.row.spec.id;
        let scopes = [format!("read:runs:{id}"), format!("write:inputStreams:{id}")];
        let token = self.mint_for(caller, &scopes, RUN_READ_TOKEN_MS).await?;
        Ok((made, token))
    }

    /// One run.
    pub async fn get_run(&self, caller: &Principal, run: &RunId) -> Result<Run> {
        self.run_for(caller, Action::Read, run).await
    }

    /// A page of runs, newest first, and where the next one begins. With a session: its runs only.
    pub async fn list_runs(
        &self,
        caller: &Principal,
        mut filter: RunFilter,
        session: Option<&SessionRef>,
        after: Option<&RunId>,
        limit: u32,
    ) -> Result<(Vec<Run>, Option<RunId>)> {
        if !caller.has_secret_key() || !caller.may(Action::Read, &[Resource::all("runs")]) {
            return Err(Error::PermissionDenied);
        }
        if let Some(asked) = session {
            let Some(row) = self.find_session(caller, asked).await? else { return Ok((Vec::new(), None)) };
            filter.session = Some(row.id);
        }
        let limit = limit.clamp(1, PAGE_SIZE_MAX);
        let mut runs = self.ports.runs.list(&caller.environment, &filter, after, limit + 1).await?;
        let has_more = runs.len() > limit as usize;
        runs.truncate(limit as usize);
        let next = runs.last().filter(|_| has_more).map(|r| r.spec.id.clone());
        Ok((runs, next))
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

    /// Replaces a run's metadata.
    pub async fn set_run_metadata(&self, caller: &Principal, run: &RunId, metadata: Option<Json>) -> Result<Run> {
        self.own_run(caller, run).await?;
        self.ports.runs.set_metadata(run, metadata, self.now()).await
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
