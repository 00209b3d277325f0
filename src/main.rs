fn main() -> std::process::ExitCode {
    continuo::cli::main()
}
