"""SFT -> group sampling -> rejection filter -> RFT -> scores, for verifiable problems.

One module per idea; README has the map. Text and mathematics never import torch or transformers;
``modeling sft_data training engine_hf sampling`` do, and only train.py and sample.py import those.
"""
