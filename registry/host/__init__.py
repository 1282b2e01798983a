"""Preparations and executions in worker processes that can be killed."""
