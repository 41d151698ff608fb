"""Supervised fine-tuning of one configuration: images -> budget -> prefix -> suffix -> scores."""
