//! Continuo: a server for durable sessions. One identifier, two durable channels, many runs over time.
//!
//! The parts, each a crate of its own so that the compiler keeps their borders: `domain` (nouns and rules), `ports` (what the
//! use cases need), `usecases` (verbs), `grpc` (the services), `adapters/*` (one technology each), the HTTP `gateway`, the
//! `proto` definitions. This crate joins them and holds the command line and the demo agent.

pub mod app;
pub mod cli;
pub mod config;
pub mod demo_agent;
pub mod server;
pub mod tasks;
pub mod telemetry;
