"""The bench: runs workloads against the three daemons on this machine, prints a table and writes JSON. Started by tools/bench.

A workload is a function of WORKLOADS; it yields (name, value) of ROWS. A row says what the value is, its unit, its goal, and how the floor
is made: what the machine itself takes for work of that size, measured in the same run (tests/bench/floor.c, openssl speed).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import gen_mesh
from mesh_run import BUILD, ROOT, Failed, Load, Mesh

SIDECARS = 1000
MANY = 10000
REPEAT = 5
CHURN_SECONDS, CHURN_RATE = 30, 100
SNAPSHOT_BYTES, VALUE_BYTES = 200 << 20, 20 << 10
LEAK_CYCLES, LEAK_SECONDS, LEAK_RATE = 10, 100, 1000  # of SIDECARS; 100,000 changes
TYPES = ("cds", "eds", "lds", "rds", "vhds")


class Row:
    def __init__(self, text, unit, goal=None, most=True):
        self.text, self.unit, self.goal, self.most = text, unit, goal, most


ROWS = {
    "private_mb_1000": Row("private memory, three daemons, 1,000 sidecars", "MB", 70),
    "private_mb_10000": Row("private memory, three daemons, 10,000 sidecars", "MB", 500),
    "connect_cpu_ms": Row("CPU to bring one sidecar up", "ms", 4),
    "connect_floor_ratio": Row("... as a multiple of the loopback floor", "", 3),
    "vs_delta_cpu_s": Row("one VirtualService to 1,000 sidecars, delta: CPU", "s", 0.8),
    "vs_delta_last_ms": Row("... last one has it", "ms", 800),
    "vs_vhds_cpu_s": Row("... with virtual hosts as resources: CPU", "s", 0.1),
    "vs_vhds_bytes": Row("... bytes to each", "B", 2000),
    "vs_vhds_last_ms": Row("... last one has it", "ms", 100),
    "vs_sotw_cpu_s": Row("... state of the world: CPU", "s", 1.5),
    "vs_sotw_last_ms": Row("... last one has it", "ms", 2000),
    "eds_cpu_s": Row("one endpoint to 1,000 sidecars: CPU", "s", 0.05),
    "eds_last_ms": Row("... last one has it", "ms", 50),
    "reconnect_cpu_s": Row("1,000 sidecars reconnect with what they hold: CPU", "s", 1),
    "reconnect_resent": Row("... resources sent again", "", 0),
    "ready_s": Row("ready from nothing with 1,000 services", "s", 0.3),
    "csr_kept_per_cpu_s": Row("certificates per CPU second, kept connection", "1/s", 6000, most=False),
    "csr_new_per_cpu_s": Row("... a new mutual TLS connection each", "1/s", 1000, most=False),
    "tls_handshakes_per_cpu_s": Row("mutual TLS handshakes per CPU second", "1/s", most=False),
    "churn_core_pct": Row("100 endpoint changes a second to 1,000 sidecars: one core", "%", 20),
    "churn_p99_ms": Row("... p99", "ms", 100),
    # Not in the table of goals; they show how cost grows and where it goes.
    "connect_bytes": Row("bytes to one sidecar at connect", "B"),
    "idle_private_mb": Row("private memory with no sidecar", "MB"),
    "ready_cpu_s": Row("CPU until ready", "s"),
    "vs_delta_bytes": Row("one VirtualService, delta: bytes to each", "B"),
    "eds_sotw_cpu_s": Row("one endpoint to 1,000 sidecars, state of the world: CPU", "s"),
    "pa_cpu_s": Row("one PeerAuthentication for a namespace, 1,000 sidecars: CPU", "s"),
    "pa_resources": Row("... resources sent", ""),
    "connect_sotw_cpu_ms": Row("CPU to bring one sidecar up, state of the world", "ms"),
    "reconnect_sotw_cpu_s": Row("1,000 reconnect, state of the world: CPU", "s"),
    "scoped_private_mb_1000": Row("private memory, 1,000 sidecars with Sidecar scopes of 20 services", "MB"),
    "scoped_connect_cpu_ms": Row("... CPU to bring one up", "ms"),
    "restart_cpu_s": Row("pilot restarts with 10,000 connected: CPU until all are back", "s"),
    "restart_seconds": Row("... time", "s"),
    "restart_resent": Row("... resources sent again", ""),
    "gateway_3000_cpu_ms": Row("3,000 routes on one gateway: CPU to bring one of 100 up", "ms"),
    "gateway_3000_bytes": Row("... bytes to one", "B"),
    "gateway_3000_vs_cpu_s": Row("... one VirtualService to 100 gateways: CPU", "s"),
    "huge_ready_s": Row("10,000 services and 100,000 endpoints: ready from nothing", "s"),
    "huge_connect_cpu_ms": Row("... CPU to bring one of 100 up", "ms"),
    "huge_private_mb": Row("... private memory, three daemons", "MB"),
    "huge_eds_cpu_s": Row("... one endpoint to 100 sidecars: CPU", "s"),
    "galley_100k_s": Row("galley with 100,000 objects from nothing, until pilot is ready", "s"),
    "galley_100k_mb": Row("... private memory, three daemons", "MB"),
    "bus_snapshot_s": Row("a bus snapshot of 200 MB in 10,000 values: time until a follower has it", "s"),
    "bus_snapshot_cpu_s": Row("... CPU of both sides", "s"),
    "leak_cycles_ratio": Row("memory after 10,000 connects and disconnects, of that before", "", 1.02),
    "leak_changes_ratio": Row("memory after 100,000 changes of endpoints, of that before", "", 1.02),
}


def floor(*words, text=None):
    out = subprocess.run([BUILD / "tests/bench/floor", *map(str, words)], input=text, capture_output=True, text=True, check=True)
    return float(out.stdout)


def total(answer, what):
    return sum(answer[t][what] for t in TYPES)


class Bench:
    """What the workloads share: generated meshes, floors, results."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.meshes, self.results, self.floors, self.runs = {}, {}, {}, 0

    def mesh(self, n=1000, **options):
        key = (n, *sorted(options.items()))
        if key not in self.meshes:
            out = self.folder / f"mesh-{len(self.meshes)}"
            gen_mesh.generate(str(out), n, **options)
            os.sync()  # writing the files back is not what is measured
            self.meshes[key] = out
        return self.meshes[key]

    def start(self, generated, pilot_options=()):
        self.runs += 1
        return Mesh(self.folder / f"run-{self.runs}", generated, pilot_options)

    def put(self, name, value, at_least=None):
        self.results[name], self.floors[name] = value, at_least
        row = ROWS[name]
        print(f"  {name:26} {shown(value):>12} {row.unit:4} {ratio(row, value, at_least):>8}", flush=True)

    def loopback(self, answer, sockets=1000):
        """CPU seconds of writing the bytes of an answer over as many sockets, in as many messages."""
        messages = max(1, total(answer, "responses"))
        return floor("loopback", max(1, total(answer, "bytes") // messages), messages, min(sockets, messages))


def shown(value):
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 100 else f"{value:.0f}"


def ratio(row, value, at_least):
    """How many times the floor: of a rate, how many times faster the floor is."""
    if not at_least:
        return ""
    return f"{value / at_least if row.most else at_least / value:.1f} x"


def memory_mb(load):
    """After the pause in which a daemon gives memory back (common/io/trim.h)."""
    time.sleep(11)
    return load.ask("memory")["private_bytes"] / 1e6


def change(load, mesh_dir, kind, kind_type, repeat=REPEAT):
    """The answers of several changes, made one after another."""
    lines = [line.split() for line in (mesh_dir / "changes.list").read_text().splitlines()]
    _, template, file = next(line for line in lines if line[0] == kind)
    return [load.ask("change", kind_type, template, file) for _ in range(repeat)]


def middle(answers, key):
    return statistics.median(a[key] for a in answers)


# ---- workloads


def ready(b):
    """Three starts from nothing; the floor is libyaml's parser over the same files."""
    generated = b.mesh()
    times, cpu = [], []
    for _ in range(3):
        mesh = b.start(generated)
        try:
            times.append(mesh.start())
            with Load(mesh.xds, mesh.pids(), generated / "clients") as load:
                cpu.append(process_cpu(mesh))
                memory = load.ask("memory")["private_bytes"] / 1e6
        finally:
            mesh.stop()
    names = "\n".join(str(p) for p in sorted(generated.glob("mesh/**/*.yaml"))) + "\n"
    least = floor("yaml", text=names)
    b.put("ready_s", statistics.median(times), least)
    b.put("ready_cpu_s", statistics.median(cpu), least)
    b.put("idle_private_mb", memory)


def process_cpu(mesh):
    ticks = os.sysconf("SC_CLK_TCK")
    stats = (pathlib.Path(f"/proc/{d.process.pid}/stat").read_text().rsplit(")", 1)[1].split() for d in mesh.all)
    return sum(int(s[11]) + int(s[12]) for s in stats) / ticks


def delta(b):
    generated = b.mesh()
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        put_connect(b, load, "delta", "connect_cpu_ms", "private_mb_1000")
        answers = change(load, generated, "vs", "rds")
        put_change(b, answers, "vs_delta", only="rds")
        b.put("vs_delta_bytes", total(answers[-1], "bytes") / SIDECARS)
        put_change(b, change(load, generated, "eds", "eds"), "eds", only="eds")
        answers = change(load, generated, "pa", "cds", 1)
        b.put("pa_cpu_s", answers[0]["cpu_s"], b.loopback(answers[0]))
        b.put("pa_resources", total(answers[0], "resources"))
        put_reconnect(b, load, "reconnect_cpu_s", "reconnect_resent")


def put_connect(b, load, mode, cpu_name, memory_name):
    answer = load.ask("connect", mode, SIDECARS)
    each = answer["cpu_s"] / SIDECARS * 1000
    least = floor("loopback", total(answer, "bytes") // SIDECARS, 200, 50) / 200 * 1000
    b.put(cpu_name, each, least)
    if memory_name:
        b.put("connect_bytes", total(answer, "bytes") / SIDECARS)
        b.put("connect_floor_ratio", each / least)
        b.put(memory_name, memory_mb(load))


def put_change(b, answers, name, only):
    for answer in answers:
        others = [t for t in TYPES if t != only and answer[t]["resources"]]
        if others:
            raise Failed(f"{name}: resources of {', '.join(others)} were sent, which did not change: {answer}")
    least = b.loopback(answers[-1])
    b.put(f"{name}_cpu_s", middle(answers, "cpu_s"), least)
    if f"{name}_last_ms" in ROWS:
        b.put(f"{name}_last_ms", middle(answers, "last_ms"), least * 1000)


def put_reconnect(b, load, cpu_name, resent_name):
    load.ask("close")
    answer = load.ask("reconnect")
    b.put(cpu_name, answer["cpu_s"], b.loopback(answer) if total(answer, "bytes") else None)
    if resent_name:
        b.put(resent_name, total(answer, "resources"))


def sotw(b):
    generated = b.mesh()
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        put_connect(b, load, "sotw", "connect_sotw_cpu_ms", None)
        put_change(b, change(load, generated, "vs", "rds"), "vs_sotw", only="rds")
        put_change(b, change(load, generated, "eds", "eds"), "eds_sotw", only="eds")
        put_reconnect(b, load, "reconnect_sotw_cpu_s", None)


def vhds(b):
    """Virtual hosts as resources of their own, an option of the proxy."""
    generated = b.mesh()
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        load.ask("connect", "vhds", SIDECARS)
        answers = change(load, generated, "vs", "vhds")
        put_change(b, answers, "vs_vhds", only="vhds")
        b.put("vs_vhds_bytes", total(answers[-1], "bytes") / SIDECARS)


def churn(b):
    generated = b.mesh()
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        load.ask("connect", "delta", SIDECARS)
        answer = load.ask("churn", CHURN_SECONDS, CHURN_RATE, generated / "changes.list")
        b.put("churn_core_pct", answer["cpu_s"] / answer["seconds"] * 100, b.loopback(answer) / answer["seconds"] * 100)
        b.put("churn_p99_ms", answer["p99_ms"])


def many(b):
    """10,000 sidecars, and a restart of pilot under them."""
    generated = b.mesh()
    with b.start(generated, ["--max-connection-age", "0s"]) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        load.ask("connect", "delta", MANY)
        b.put("private_mb_10000", memory_mb(load))
        mesh.pilot.stop()
        load.ask("close")
        mesh.pilot.start()
        while not mesh.pilot.ready():
            pass
        load.ask("pids", mesh.pids())
        answer = load.ask("reconnect")
        b.put("restart_cpu_s", answer["cpu_s"])
        b.put("restart_seconds", answer["seconds"])
        b.put("restart_resent", total(answer, "resources"))


def scopes(b):
    generated = b.mesh(scope=20)
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        answer = load.ask("connect", "delta", SIDECARS)
        b.put("scoped_connect_cpu_ms", answer["cpu_s"] / SIDECARS * 1000, b.loopback(answer) / SIDECARS * 1000)
        b.put("scoped_private_mb_1000", memory_mb(load))


def gateway(b):
    """100 gateways with 3,000 routes."""
    generated = b.mesh(gateway_routes=3000)
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        answer = load.ask("connect", "gateway", 100)
        b.put("gateway_3000_cpu_ms", answer["cpu_s"] / 100 * 1000, b.loopback(answer) / 100 * 1000)
        b.put("gateway_3000_bytes", total(answer, "bytes") / 100)
        answers = change(load, generated, "gateway", "rds", 3)
        b.put("gateway_3000_vs_cpu_s", middle(answers, "cpu_s"), b.loopback(answers[-1]))


def huge(b):
    generated = b.mesh(10000, endpoints=100000)
    mesh = b.start(generated)
    try:
        b.put("huge_ready_s", mesh.start(600))
        with Load(mesh.xds, mesh.pids(), generated / "clients") as load:
            answer = load.ask("connect", "delta", 100)
            b.put("huge_connect_cpu_ms", answer["cpu_s"] / 100 * 1000, b.loopback(answer) / 100 * 1000)
            b.put("huge_private_mb", memory_mb(load))
            b.put("huge_eds_cpu_s", middle(change(load, generated, "eds", "eds", 3), "cpu_s"))
    finally:
        mesh.stop()


def galley(b):
    """100,000 objects: 20,000 services of which half have four WorkloadEntries, 4,000 VirtualServices and DestinationRules."""
    generated = b.mesh(20000, endpoints=110000, n_changes=1)
    mesh = b.start(generated)
    try:
        b.put("galley_100k_s", mesh.start(600))
        with Load(mesh.xds, mesh.pids(), generated / "clients") as load:
            b.put("galley_100k_mb", memory_mb(load))
    finally:
        mesh.stop()


def bus(b):
    """A publisher and a follower alone; the floor of its CPU is writing as many bytes to a loopback socket."""
    address = f"ipc://{b.folder}/bus-{{role}}"
    out = subprocess.run([BUILD / "tests/bench/bus_load", address, str(SNAPSHOT_BYTES), str(VALUE_BYTES)], capture_output=True, text=True)
    if out.returncode:
        raise Failed(f"bus_load: {out.stderr}")
    answer = json.loads(out.stdout)
    least = floor("loopback", 1 << 20, SNAPSHOT_BYTES >> 20, 1)
    b.put("bus_snapshot_s", answer["seconds"], least)
    b.put("bus_snapshot_cpu_s", answer["cpu_s"], least)


def leaks(b):
    """Memory comes back: after the first rounds have made the heap as large as such bursts need it."""
    generated = b.mesh()
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        load.ask("connect", "delta", 100)
        before = lowest_mb(load, generated / "changes.list")
        load.ask("churn", LEAK_SECONDS, LEAK_RATE, generated / "changes.list")
        b.put("leak_changes_ratio", lowest_mb(load, generated / "changes.list") / before)
        load.ask("connect", "delta", SIDECARS)
        cycle(load, 2)
        before = memory_mb(load)
        cycle(load, LEAK_CYCLES)
        b.put("leak_cycles_ratio", memory_mb(load) / before)


def lowest_mb(load, changes):
    """Where the last push happened to leave its pieces makes 3 % from one moment to the next."""
    sizes = []
    for _ in range(3):
        load.ask("churn", 2, LEAK_RATE, changes)
        sizes.append(memory_mb(load))
    return min(sizes)


def cycle(load, times):
    for _ in range(times):
        load.ask("close")
        load.ask("reconnect")


def grow(b):
    """How cost grows: three sizes each of services, endpoints, proxies and changes."""
    for n in (300, 1000, 3000):
        grown(b, f"services_{n}", b.mesh(n), 100)
    for n in (3500, 10000, 30000):
        grown(b, f"endpoints_{n}", b.mesh(1000, endpoints=n), 100)
    for n in (100, 300, 1000):
        grown(b, f"proxies_{n}", b.mesh(), n)
    generated = b.mesh()
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        load.ask("connect", "delta", 300)
        for rate in (10, 30, 100):
            answer = load.ask("churn", 10, rate, generated / "changes.list")
            put_grown(b, f"changes_{rate}_core_pct", "%", answer["cpu_s"] / answer["seconds"] * 100)
            put_grown(b, f"changes_{rate}_p99_ms", "ms", answer["p99_ms"])


def put_grown(b, name, unit, value):
    ROWS[name] = Row(name.replace("_", " "), unit)
    b.put(name, value)


def grown(b, name, generated, proxies):
    with b.start(generated) as mesh, Load(mesh.xds, mesh.pids(), generated / "clients") as load:
        put_grown(b, f"{name}_ready_cpu_s", "s", process_cpu(mesh))
        answer = load.ask("connect", "delta", proxies)
        put_grown(b, f"{name}_connect_cpu_ms", "ms", answer["cpu_s"] / proxies * 1000)
        put_grown(b, f"{name}_vs_cpu_ms", "ms", middle(change(load, generated, "vs", "rds", 3), "cpu_s") * 1000)
        put_grown(b, f"{name}_eds_cpu_ms", "ms", middle(change(load, generated, "eds", "eds", 3), "cpu_s") * 1000)
        put_grown(b, f"{name}_private_mb", "MB", memory_mb(load))


def csr(b):
    """tests/bench/csr/run: a citadel of its own and a client; the floors are OpenSSL's operations alone, measured in the same run."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run([ROOT / "tests/bench/csr/run", "--json", out.name], env={**os.environ, "FAIRLEAD_BUILD": str(BUILD)})
        if done.returncode:
            raise Failed("tests/bench/csr/run ended with an error")
        figures = json.load(open(out.name, encoding="utf-8"))
    for name in figures:
        if name in ROWS:
            b.put(name, figures[name], figures[name + "_floor"])


WORKLOADS = {f.__name__: f for f in (ready, delta, sotw, vhds, churn, many, scopes, gateway, huge, galley, bus, leaks, csr, grow)}


def write_json(path, b):
    rows = [{"name": name, "value": value, "unit": ROWS[name].unit, "floor": b.floors[name], "goal": ROWS[name].goal}
            for name, value in b.results.items()]
    pathlib.Path(path).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def table(b):
    print(f"\n{'':62} {'measured':>10} {'':4} {'goal':>8} {'floor':>10} {'multiple':>9}")
    for name, row in ROWS.items():
        if name not in b.results:
            continue
        value, least = b.results[name], b.floors[name]
        met = row.goal is None or (value <= row.goal if row.most else value >= row.goal)
        goal = "" if row.goal is None else f"{'<=' if row.most else '>='} {row.goal:g}"
        print(f"{row.text[:62]:62} {shown(value):>10} {row.unit:4} {goal:>8} {shown(least) if least else '':>10} {ratio(row, value, least):>9}"
              f"{'' if met else '  missed'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workload", nargs="*", help=f"which of {', '.join(WORKLOADS)} (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write an array of {name, value, unit, floor, goal}")
    a = parser.parse_args()
    unknown = [w for w in a.workload if w not in WORKLOADS]
    if unknown:
        sys.exit(f"no workload {', '.join(unknown)}; there are: {', '.join(WORKLOADS)}")
    failed = []
    with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as folder:
        b = Bench(folder)
        for name in a.workload or WORKLOADS:
            print(f"{name}:", flush=True)
            try:
                WORKLOADS[name](b)
            except Failed as error:
                print(f"  failed: {error}", flush=True)
                failed.append(name)
        table(b)
        if a.json:
            write_json(a.json, b)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
