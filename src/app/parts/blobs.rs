//! Where snapshots and packets are: files in the data directory, or the bucket that the settings name.

use super::DataDir;
use crate::config;
use anyhow::{Context, Result};
use continuo_blob_files::BlobFiles;
use continuo_blob_s3::BlobS3;
use continuo_ports::BlobStore;
use std::sync::Arc;

pub(super) async fn open(config: &config::Blobs, data_dir: &DataDir) -> Result<Arc<dyn BlobStore>> {
    let Some(s3) = &config.s3 else {
        return Ok(Arc::new(BlobFiles::open(data_dir.blobs()).context("cannot open the directory of blobs")?));
    };
    Ok(Arc::new(open_bucket(s3, data_dir).await?))
}

pub(super) async fn open_bucket(s3: &config::S3, data_dir: &DataDir) -> Result<BlobS3> {
    let store = BlobS3::open(continuo_blob_s3::Options {
        endpoint: s3.endpoint.clone(),
        bucket: s3.bucket.clone(),
        region: s3.region.clone(),
        access_key: s3.access_key.expose().to_owned(),
        secret_key: s3.secret_key.expose().to_owned(),
        path_style: s3.path_style,
        prefix: s3.prefix.clone(),
        drafts: data_dir.path().to_owned(),
    });
    store.await.context("cannot use the store of blobs")
}
