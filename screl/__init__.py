"""SFT -> group sampling -> rejection filter -> RFT -> scores, for verifiable problems.

One module per idea. Text and mathematics (``answers equations rejection metrics prompts
problems store published``) never import torch or transformers; ``sft_data modeling training
engine_hf`` do, and only ``train.py`` and ``sample.py`` import those.
"""
