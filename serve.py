"""Put a trained model behind an address, for programs that speak OpenAI's completions.

python serve.py run=latest
python serve.py run=outputs/latest/best port=8000 dtype=float32
"""

from cleangpt import programs

if __name__ == "__main__":
    programs.serve()  # a shell that completes looks for @hydra.main
