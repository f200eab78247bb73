using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "main", worker = .noop)],
  # The address is given on the command line.
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);

const noop :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "workerd.js")],
  compatibilityDate = "2026-01-01",
);
