"""Run every benchmark, one after another."""

from benchmarks import demo, setup_size, storm

if __name__ == "__main__":
    setup_size.main()
    demo.main()
    storm.main()
