"""Modalities: conversion of encoded bytes to tensors."""
