//! RunService.

use crate::Services;
use crate::convert::{PAGE_SIZE_DEFAULT, list_size, page_size, page_token, run as convert, waitpoint};
use crate::status::of_error;
use continuo_domain::run::Run;
use continuo_domain::waitpoint::Waitpoint;
use continuo_ports::run_store::Queues;
use continuo_proto::v1;
use continuo_proto::v1::run_service_server::RunService;
use continuo_usecases::{QUEUES_MAX, RunFamily};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl RunService for Services {
    async fn trigger_run(
        &self,
        request: Request<v1::TriggerRunRequest>,
    ) -> Result<Response<v1::TriggerRunResponse>, Status> {
        let caller = self.principal(&request).await?;
        let (id, now) = (self.core.new_run_id(), self.core.now());
        let (run, by) = convert::parse_trigger(request.into_inner(), &caller, id, now).map_err(of_error)?;
        let core = self.core.clone();
        let triggered = self.to_the_end(async move { core.trigger_run(&caller, run, by).await }).await?;
        let (made, public_access_token) = triggered;
        Ok(Response::new(v1::TriggerRunResponse {
            run: Some(convert::print(&made.row, self.core.now())),
            is_cached: made.is_cached,
            public_access_token,
            waitpoint: made.wait.map(|(row, _)| waitpoint::print(&row)),
        }))
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Result<Response<v1::GetRunResponse>, Status> {
        let caller = self.principal(&request).await?;
        let id = convert::parse_id(&request.get_ref().run_id).map_err(of_error)?;
        let RunFamily { run, parent, root, children } = self.core.get_family(&caller, &id).await.map_err(of_error)?;
        let now = self.core.now();
        let print = |run: &Run| convert::print_in_list(run, now);
        Ok(Response::new(v1::GetRunResponse {
            run: Some(convert::print(&run, now)),
            root: root.as_ref().map(print),
            parent: parent.as_ref().map(print),
            children: children.iter().map(print).collect(),
        }))
    }

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let list = convert::parse_list(&caller.environment, request.into_inner()).map_err(of_error)?;
        let page = self.core.list_runs(&caller, list.filter, list.session.as_ref(), &list.from, list.page_size).await;
        let page = page.map_err(of_error)?;
        let now = self.core.now();
        let (next_page_token, previous_page_token) = page_token::runs(&caller.environment, &page);
        Ok(Response::new(v1::ListRunsResponse {
            runs: page.rows.iter().map(|run| convert::print_in_list(run, now)).collect(),
            next_page_token,
            previous_page_token,
        }))
    }

    async fn list_queues(
        &self,
        request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        let caller = self.principal(&request).await?;
        let limit = list_size("limit", request.get_ref().limit, QUEUES_MAX).map_err(of_error)?;
        let Queues { queues, has_more } = self.core.list_queues(&caller, limit).await.map_err(of_error)?;
        let queues = queues.into_iter().map(convert::print_queue).collect();
        Ok(Response::new(v1::ListQueuesResponse { queues, has_more }))
    }

    async fn cancel_run(
        &self,
        request: Request<v1::CancelRunRequest>,
    ) -> Result<Response<v1::CancelRunResponse>, Status> {
        let caller = self.principal(&request).await?;
        let id = convert::parse_id(&request.get_ref().run_id).map_err(of_error)?;
        let core = self.core.clone();
        let run = self.to_the_end(async move { core.cancel_run(&caller, &id).await }).await?;
        Ok(Response::new(v1::CancelRunResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn reschedule_run(
        &self,
        request: Request<v1::RescheduleRunRequest>,
    ) -> Result<Response<v1::RescheduleRunResponse>, Status> {
        let caller = self.principal(&request).await?;
        let (id, at) = convert::parse_reschedule(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let run = self.to_the_end(async move { core.reschedule_run(&caller, &id, at).await }).await?;
        Ok(Response::new(v1::RescheduleRunResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn update_run_metadata(
        &self,
        request: Request<v1::UpdateRunMetadataRequest>,
    ) -> Result<Response<v1::UpdateRunMetadataResponse>, Status> {
        let caller = self.principal(&request).await?;
        let (id, update) = convert::parse_update(request.into_inner()).map_err(of_error)?;
        let run = self.core.update_run_metadata(&caller, &id, update).await.map_err(of_error)?;
        Ok(Response::new(v1::UpdateRunMetadataResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn add_run_tags(
        &self,
        request: Request<v1::AddRunTagsRequest>,
    ) -> Result<Response<v1::AddRunTagsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::AddRunTagsRequest { run_id, tags } = request.into_inner();
        let id = convert::parse_id(&run_id).map_err(of_error)?;
        let run = self.core.add_run_tags(&caller, &id, tags).await.map_err(of_error)?;
        Ok(Response::new(v1::AddRunTagsResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn wait_on_channel(
        &self,
        request: Request<v1::WaitOnChannelRequest>,
    ) -> Result<Response<v1::WaitOnChannelResponse>, Status> {
        let caller = self.principal(&request).await?;
        let wait = waitpoint::parse_wait_on_channel(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let made = self.to_the_end(async move { core.wait_on_channel(&caller, wait).await }).await?;
        let waitpoint = Some(waitpoint::print(&made.row));
        Ok(Response::new(v1::WaitOnChannelResponse { waitpoint, is_cached: made.is_cached }))
    }

    async fn wait_for_duration(
        &self,
        request: Request<v1::WaitForDurationRequest>,
    ) -> Result<Response<v1::WaitForDurationResponse>, Status> {
        let caller = self.principal(&request).await?;
        let wait = waitpoint::parse_wait_for_duration(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let row = self.to_the_end(async move { core.wait_for_duration(&caller, wait).await }).await?;
        Ok(Response::new(v1::WaitForDurationResponse { waitpoint: Some(waitpoint::print(&row)) }))
    }

    async fn suspend_on_waitpoint(
        &self,
        request: Request<v1::SuspendOnWaitpointRequest>,
    ) -> Result<Response<v1::SuspendOnWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let v1::SuspendOnWaitpointRequest { run_id, waitpoint_id, lease } = request.into_inner();
        let run = convert::parse_id(&run_id).map_err(of_error)?;
        let id = waitpoint::parse_id(&waitpoint_id).map_err(of_error)?;
        let core = self.core.clone();
        let run = self.to_the_end(async move { core.suspend(&caller, &run, &id, lease).await }).await?;
        Ok(Response::new(v1::SuspendOnWaitpointResponse { run: Some(convert::print(&run, self.core.now())) }))
    }

    async fn create_waitpoint(
        &self,
        request: Request<v1::CreateWaitpointRequest>,
    ) -> Result<Response<v1::CreateWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let new = waitpoint::parse_new(request.into_inner()).map_err(of_error)?;
        let (made, public_access_token) = self.core.create_waitpoint(&caller, new).await.map_err(of_error)?;
        let waitpoint = Some(self.print_for_callers(&made.row));
        Ok(Response::new(v1::CreateWaitpointResponse { waitpoint, is_cached: made.is_cached, public_access_token }))
    }

    async fn get_waitpoint(
        &self,
        request: Request<v1::GetWaitpointRequest>,
    ) -> Result<Response<v1::GetWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let id = waitpoint::parse_id(&request.get_ref().waitpoint_id).map_err(of_error)?;
        let row = self.core.get_waitpoint(&caller, &id).await.map_err(of_error)?;
        Ok(Response::new(v1::GetWaitpointResponse { waitpoint: Some(self.print_for_callers(&row)) }))
    }

    async fn list_waitpoints(
        &self,
        request: Request<v1::ListWaitpointsRequest>,
    ) -> Result<Response<v1::ListWaitpointsResponse>, Status> {
        let caller = self.principal(&request).await?;
        let size = page_size(request.get_ref().page_size, PAGE_SIZE_DEFAULT).map_err(of_error)?;
        let token = &request.get_ref().page_token;
        let from = page_token::parse_waitpoints(&caller.environment, token).map_err(of_error)?;
        let filter = waitpoint::parse_filter(request.into_inner()).map_err(of_error)?;
        let page = self.core.list_waitpoints(&caller, &filter, &from, size).await.map_err(of_error)?;
        let (next_page_token, previous_page_token) = page_token::waitpoints(&caller.environment, &page);
        Ok(Response::new(v1::ListWaitpointsResponse {
            waitpoints: page.rows.iter().map(|row| self.print_for_callers(row)).collect(),
            next_page_token,
            previous_page_token,
        }))
    }

    async fn complete_waitpoint(
        &self,
        request: Request<v1::CompleteWaitpointRequest>,
    ) -> Result<Response<v1::CompleteWaitpointResponse>, Status> {
        let caller = self.principal(&request).await?;
        let (id, completion) = waitpoint::parse_completion(request.into_inner()).map_err(of_error)?;
        let core = self.core.clone();
        let row = self.to_the_end(async move { core.complete_waitpoint(&caller, &id, completion).await }).await?;
        Ok(Response::new(v1::CompleteWaitpointResponse { waitpoint: Some(waitpoint::print(&row)) }))
    }
}

impl Services {
    /// For those who may hand it on: with the token of its URL.
    fn print_for_callers(&self, row: &Waitpoint) -> v1::Waitpoint {
        v1::Waitpoint { callback_token: self.core.callback_token(row), ..waitpoint::print(row) }
    }
}
