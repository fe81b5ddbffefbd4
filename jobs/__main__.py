"""`python -m jobs` is the `proxygrm` command; it lives in `jobs.cli.main`."""

from jobs.cli.main import main

if __name__ == "__main__":
    main()
