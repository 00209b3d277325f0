//! BlobService.

use crate::Services;
use crate::convert::{blob as convert, time};
use crate::door;
use crate::first_message::first_message;
use crate::services::Answer;
use crate::status::of_error;
use continuo_domain::blob::{BlobGrant, BlobMethod};
use continuo_proto::v1;
use continuo_proto::v1::blob_service_server::BlobService;
use futures_util::StreamExt;
use tonic::{Request, Response, Status, Streaming};

#[tonic::async_trait]
impl BlobService for Services {
    type GetBlobStream = Answer<v1::GetBlobResponse>;

    async fn presign_put(
        &self,
        request: Request<v1::PresignPutRequest>,
    ) -> Result<Response<v1::PresignPutResponse>, Status> {
        let caller = self.principal(&request).await?;
        let target = convert::parse_target(request.into_inner().target).map_err(of_error)?;
        let url = self.blobs.presign(&caller, BlobMethod::Put, target).await.map_err(of_error)?;
        let (url_path, storage_path) = convert::print_url(&url);
        let expires_at = Some(time::print(url.expires_at));
        Ok(Response::new(v1::PresignPutResponse { url_path, expires_at, storage_path }))
    }

    async fn presign_get(
        &self,
        request: Request<v1::PresignGetRequest>,
    ) -> Result<Response<v1::PresignGetResponse>, Status> {
        let caller = self.principal(&request).await?;
        let target = convert::parse_target(request.into_inner().target).map_err(of_error)?;
        let url = self.blobs.presign(&caller, BlobMethod::Get, target).await.map_err(of_error)?;
        let (url_path, storage_path) = convert::print_url(&url);
        let expires_at = Some(time::print(url.expires_at));
        Ok(Response::new(v1::PresignGetResponse { url_path, expires_at, storage_path }))
    }

    async fn put_blob(
        &self,
        request: Request<Streaming<v1::PutBlobRequest>>,
    ) -> Result<Response<v1::PutBlobResponse>, Status> {
        let grant = self.granted(&request, BlobMethod::Put).await?;
        let mut parts = request.into_inner();
        let first = first_message(&mut parts, self.core.stopping()).await?;
        let upload = convert::parse_upload(first, parts).map_err(of_error)?;
        let blobs = self.blobs.clone();
        self.to_the_end(async move { blobs.put(grant, upload).await }).await?;
        Ok(Response::new(v1::PutBlobResponse {}))
    }

    async fn get_blob(&self, request: Request<v1::GetBlobRequest>) -> Result<Response<Self::GetBlobStream>, Status> {
        let grant = self.granted(&request, BlobMethod::Get).await?;
        let blob = self.blobs.get(&grant.key).await.map_err(of_error)?;
        Ok(Response::new(convert::print_blob(blob).boxed()))
    }
}

impl Services {
    /// What a URL's token allows. It comes where every credential comes, and is checked before anything is read.
    async fn granted<T>(&self, request: &Request<T>, method: BlobMethod) -> Result<BlobGrant, Status> {
        let bearer = door::bearer(request.metadata()).map_err(of_error)?;
        self.blobs.granted(bearer, method).await.map_err(of_error)
    }
}
