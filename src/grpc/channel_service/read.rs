//! The two ways to read. Neither needs a task: the answer is the domain's stream, mapped, and is pulled as fast as the
//! reader takes it.

use crate::Services;
use crate::convert::channel as convert;
use crate::services::Answer;
use crate::status::of_error;
use continuo_domain::principal::Principal;
use continuo_proto::{SETTLED_METADATA, v1};
use futures_util::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

impl Services {
    pub(super) async fn answer_read(
        &self,
        caller: Principal,
        request: v1::ReadRequest,
    ) -> Result<Response<Answer<v1::ReadResponse>>, Status> {
        let read = convert::parse_read(request).map_err(of_error)?;
        let read = self.core.read_channel(&caller, read).await.map_err(of_error)?;
        let events = read.events.map(|message| match message {
            Ok(message) => Ok(v1::ReadResponse { event: Some(convert::print_event(message)) }),
            Err(error) => Err(of_error(error)),
        });
        let mut response = Response::new(events.boxed());
        if read.is_settled {
            response.metadata_mut().insert(SETTLED_METADATA, MetadataValue::from_static("true"));
        }
        Ok(response)
    }

    pub(super) async fn answer_list_records(
        &self,
        caller: Principal,
        request: v1::ListRecordsRequest,
    ) -> Result<Response<Answer<v1::ListRecordsResponse>>, Status> {
        let target = convert::parse_target(request.channel).map_err(of_error)?;
        let from = request.after_seq_num.map_or(0, |after| after.saturating_add(1));
        let batches = self.core.list_records(&caller, &target, from).await.map_err(of_error)?;
        let pages = batches.map(|batch| match batch {
            Ok(records) => Ok(v1::ListRecordsResponse { records: records.iter().map(convert::print_record).collect() }),
            Err(error) => Err(of_error(error)),
        });
        Ok(Response::new(pages.boxed()))
    }
}
