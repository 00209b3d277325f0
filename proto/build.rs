//! Compiles the definitions with protox: nothing to install.

use std::{env, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let package = root.join("continuo/v1");
    println!("cargo::rerun-if-changed={}", package.display());
    let mut files: Vec<PathBuf> =
        fs::read_dir(&package)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("continuo.v1.binpb"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().bytes(".continuo.v1").compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
