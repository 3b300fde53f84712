"""Run a program: `python -m cleangpt train model=llama`."""

from cleangpt import programs

if __name__ == "__main__":
    programs.run()
