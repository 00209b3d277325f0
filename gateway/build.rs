//! A page that is new in these folders is part of the next build.

fn main() {
    for folder in ["console/dist", "../docs", "../proto/continuo/v1"] {
        println!("cargo::rerun-if-changed={folder}");
    }
}
